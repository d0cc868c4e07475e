"""From an edit to a folder that others can load: ``hp.export``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from headpursuit.editing.edit import HeadEdit, read_edit_file
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.adapters import SERVING_RANK, write_ia3, write_lora
from headpursuit.exporting.checkpoint import require_patchable, write_checkpoint
from headpursuit.exporting.folder import new_folder, require_new
from headpursuit.exporting.projections import EditedProjection, ExportSource, edited_projections, open_source
from headpursuit.exporting.provenance import write_card, write_record
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import local_folder

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
        left_out: files of the original with weights in other forms, which were not copied since they hold no edit.
    """

    folder: Path
    format: str
    edit: HeadEdit
    model: Mapping[str, Any]
    changed: tuple[str, ...]
    rank: int | None = None
    left_out: tuple[str, ...] = ()


def export(
    model: HeadModel | str | Path,
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
        out: a new folder; it appears when it is complete.
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
    if format not in FORMATS:
        raise HeadPursuitError(f"format={format!r}: choose one of {', '.join(FORMATS)}")
    out, path = Path(out), str(edit) if not isinstance(edit, HeadEdit) else "the edit"
    if not isinstance(edit, HeadEdit):
        edit, origin = read_edit_file(edit)
    require_new(out, source=model.source.folder if isinstance(model, HeadModel) else local_folder(model, revision=revision))
    source = open_source(model, origin=origin, path=path, revision=revision, trust_remote_code=trust_remote_code)
    edited = edited_projections(edit, source)
    done = Export(folder=out, format=format, edit=edit, model=source.identity, changed=())
    if format == "checkpoint":
        folder = require_patchable(source, edited)
        with new_folder(out) as draft:
            left_out = write_checkpoint(draft, folder, edited, link=link, progress=progress)
            _describe(draft, source, edit, edited, format=format)
        keys = tuple(one.stored.key for one in edited if one.stored is not None)
        return replace(done, changed=keys, left_out=tuple(map(str, left_out)))
    with new_folder(out) as draft:
        rank = write_lora(draft, source, edited, max_rank=max_rank) if format == "lora" else None
        if format == "ia3":
            write_ia3(draft, source, edited)
        _describe(draft, source, edit, edited, format=format)
    return replace(done, changed=tuple(one.layer.projection for one in edited), rank=rank)


def _describe(draft: Path, source: ExportSource, edit: HeadEdit, edited: Sequence[EditedProjection], *, format: str) -> None:
    write_record(draft, source, edit, edited, format=format)
    write_card(draft, source, edit, format=format)
