"""From an edit to a folder that others can load: ``hp.export``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from headpursuit.editing.edit import HeadEdit, read_edit_file
from headpursuit.errors import HeadPursuitError, check_choice, check_counts, shown
from headpursuit.exporting.adapters import SERVING_RANK, write_ia3, write_lora
from headpursuit.exporting.checkpoint import require_patchable, write_checkpoint
from headpursuit.exporting.folder import new_folder, require_new
from headpursuit.exporting.projections import EditedProjection, ExportSource, edited_projections, open_source
from headpursuit.exporting.provenance import holds_export, is_same_export, write_card, write_record
from headpursuit.files import locked
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, check_model, local_folder

Format = Literal["checkpoint", "lora", "ia3"]
FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True)
class Export:
    """A folder that was written.

    Attributes:
        folder: where it is.
        format: ``checkpoint``, ``lora`` or ``ia3``.
        edit: the edit in it.
        model: identity of the model that was edited.
        changed: names of the tensors that were changed in a checkpoint, or paths of the modules that an adapter changes.
        rank: rank of a LoRA, or None.
        left_out: files of the original that were not copied: weights in other forms, which hold no edit, and pickles.
        already: whether the folder held this very export before.
    """

    folder: Path
    format: str
    edit: HeadEdit
    model: Mapping[str, Any]
    changed: tuple[str, ...]
    rank: int | None = None
    left_out: tuple[str, ...] = ()
    already: bool = False


def export(
    model: ModelLike,
    edit: HeadEdit | str | Path,
    out: str | Path,
    *,
    format: Format = "checkpoint",
    max_rank: int = SERVING_RANK,
    link: bool = False,
    origin: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Export:
    """Write an edit into a folder that is loaded without this package.

    An edit is a column scaling of output projections, so it goes into a checkpoint's weights at no cost, and is exactly a
    LoRA and exactly an IA3. Scales −1, 0 and powers of two are exact in any dtype; others round once.

    Args:
        model: a model in memory, or what :func:`headpursuit.load` takes. A path is not loaded when the edit comes with the
            fingerprint of a model and the files show the same.
        edit: an edit, or a file of one.
        out: a new folder; it appears when it is complete. One that holds this very export is left as it is.
        format: ``checkpoint`` patches the edited tensors in copies of the original's own safetensors files and keeps names,
            dtypes, shards and side files; ``lora`` and ``ia3`` write a PEFT adapter for the unchanged model.
        max_rank: the highest rank of a LoRA.
        link: share the files of weights that are not edited with the original on disk (hard links) instead of copying
            them. Writing into such a file later, in either folder, changes both.
        origin: identity of the model that the edit belongs to, where the edit is not a file that holds it.
        revision: commit, branch or tag on the Hub.
        trust_remote_code: run code that comes with the checkpoint.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: the edit is another model's, holds for chosen tokens only or changes nothing; ``out`` is not empty
            or is the model's own folder; the weights are quantised, shared between layers, not on this machine, or stored in
            another form (adapters may still go); the rank is too high; the disk is full.

    >>> done = hp.export(model, hp.HeadEdit(["L1.H2"], scale=-1), tmp_path / "edited", progress=False)
    >>> done.changed
    ('language_model.model.layers.1.self_attn.o_proj.weight',)
    """
    check_choice(FORMATS, format=format)
    check_counts(max_rank=max_rank)
    check_model(model)
    out, path = Path(out), str(edit) if not isinstance(edit, HeadEdit) else "the edit"
    if not isinstance(edit, HeadEdit | str | Path):
        raise HeadPursuitError(f"{shown(edit)} is no edit: give a HeadEdit, or a file of one")
    if not isinstance(edit, HeadEdit):
        edit, origin = read_edit_file(edit)
    own_folder = model.source.folder if isinstance(model, HeadModel) else local_folder(model, revision=revision)
    if not holds_export(out):
        require_new(out, source=own_folder)
    source = open_source(model, origin=origin, path=path, revision=revision, trust_remote_code=trust_remote_code)
    edited = edited_projections(edit, source)
    with locked(out, beside=True):
        if holds_export(out) and is_same_export(out, source, edit, format=format):
            changed = tuple(_changed(edited, format))
            return Export(folder=out, format=format, edit=edit, model=source.identity, changed=changed, already=True)
        require_new(out, source=own_folder)
        return _export(out, source, edit, edited, format=format, max_rank=max_rank, link=link, progress=progress)


def _export(
    out: Path,
    source: ExportSource,
    edit: HeadEdit,
    edited: Sequence[EditedProjection],
    *,
    format: str,
    max_rank: int,
    link: bool,
    progress: bool,
) -> Export:
    rank: int | None = None
    left_out: tuple[Path, ...] = ()
    folder = require_patchable(source, edited) if format == "checkpoint" else None
    with new_folder(out) as draft:
        if folder is not None:
            left_out = write_checkpoint(draft, folder, edited, link=link, progress=progress)
        elif format == "lora":
            rank = write_lora(draft, source, edited, max_rank=max_rank)
        else:
            write_ia3(draft, source, edited)
        write_card(draft, source, edit, format=format)
        write_record(draft, source, edit, edited, format=format)
    return Export(
        folder=out,
        format=format,
        edit=edit,
        model=source.identity,
        changed=tuple(_changed(edited, format)),
        rank=rank,
        left_out=tuple(map(str, left_out)),
    )


def _changed(edited: Sequence[EditedProjection], format: str) -> Iterator[str]:
    for one in edited:
        if format != "checkpoint":
            yield one.layer.projection
        elif one.stored is not None:
            yield one.stored.key
