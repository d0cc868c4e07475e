"""From an edit to a folder or a file that others can load: ``hp.export``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from headpursuit.editing.edit import HeadEdit, read_edit_file
from headpursuit.errors import HeadPursuitError, check_choice, check_counts, shown
from headpursuit.exporting.adapters import SERVING_RANK, write_ia3, write_lora
from headpursuit.exporting.checkpoint import require_patchable, write_checkpoint
from headpursuit.exporting.folder import new_folder, require_new
from headpursuit.exporting.gguf import SUFFIX, StoredEdit, out_names, require_gguf, require_source, write_gguf
from headpursuit.exporting.projections import EditedProjection, ExportSource, edited_projections, open_source
from headpursuit.exporting.provenance import (
    holds_export,
    is_of,
    is_same_export,
    own_files,
    read_record,
    record_path,
    write_card,
    write_record,
)
from headpursuit.files import locked
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, check_model, local_folder
from headpursuit.stores import on_this_machine

Format = Literal["checkpoint", "lora", "ia3", "gguf"]
FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True)
class Export:
    """A folder, or a GGUF file, that was written.

    Attributes:
        folder: where it is; of a GGUF file in parts the first.
        format: ``checkpoint``, ``lora``, ``ia3`` or ``gguf``.
        edit: the edit in it.
        model: identity of the model that was edited.
        changed: names of the tensors that were changed in files of weights, or paths of the modules that an adapter changes.
        rank: rank of a LoRA, or None.
        left_out: files of the original that were not copied: weights in other forms, which hold no edit, and pickles.
        stored: for a GGUF file, how each of those tensors is stored, and how near to the edit; empty where it was there before.
        already: whether it was there before.
    """

    folder: Path
    format: str
    edit: HeadEdit
    model: Mapping[str, Any]
    changed: tuple[str, ...]
    rank: int | None = None
    left_out: tuple[str, ...] = ()
    stored: tuple[StoredEdit, ...] = ()
    already: bool = False


def export(
    model: ModelLike,
    edit: HeadEdit | str | Path,
    out: str | Path,
    *,
    format: Format | None = None,
    max_rank: int = SERVING_RANK,
    link: bool = False,
    origin: Mapping[str, Any] | None = None,
    about: str = "",
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Export:
    """Write an edit into a folder, or a GGUF file, that is loaded without this package.

    An edit is a column scaling of output projections, so it goes into a checkpoint's weights at no cost, and is exactly a
    LoRA and exactly an IA3. Scales −1, 0 and powers of two are exact in any dtype; others round once.

    Args:
        model: a model in memory, or what :func:`headpursuit.load` takes. A path is not loaded when the edit comes with the
            fingerprint of a model and the files show the same.
        edit: an edit, or a file of one.
        out: a new folder, or a new file for ``gguf``; it appears when it is complete. One that holds this very export is left
            as it is.
        format: ``checkpoint`` patches the edited tensors in copies of the original's own safetensors files and keeps names,
            dtypes, shards and side files; ``lora`` and ``ia3`` write a PEFT adapter for the unchanged model; ``gguf`` copies a
            model's GGUF file with the edited tensors scaled in their own blocks, or in float32 where those cannot hold the edit
            (see :class:`headpursuit.exporting.gguf.StoredEdit`), and its record beside it, ``OUT.json``. When left out,
            ``gguf`` for a name that ends in ``.gguf``, else ``checkpoint``.
        max_rank: the highest rank of a LoRA.
        link: share the files of weights that are not edited with the original on disk (hard links) instead of copying
            them. Writing into such a file later, in either folder, changes both.
        origin: identity of the model that the edit belongs to, where the edit is not a file that holds it.
        about: Markdown that a folder's model card says of the edit, beside what it is.
        revision: commit, branch or tag on the Hub.
        trust_remote_code: run code that comes with the checkpoint.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: the edit is another model's, holds for chosen tokens only or changes nothing; ``out`` is not empty
            or is the model's own folder; the model is no GGUF file where one is wanted, or is one where a checkpoint is; the
            weights are quantised, shared between layers, not on this machine, or stored in another form (adapters may still
            go); the rank is too high; the disk is full.

    >>> done = hp.export(model, hp.HeadEdit(["L1.H2"], scale=-1), tmp_path / "edited", progress=False)
    >>> done.changed
    ('language_model.model.layers.1.self_attn.o_proj.weight',)
    """
    on_this_machine(out)
    chosen = format_of(Path(out), format)
    check_counts(max_rank=max_rank)
    check_model(model)
    out, path = Path(out), str(edit) if not isinstance(edit, HeadEdit) else "the edit"
    if not isinstance(edit, HeadEdit | str | Path):
        raise HeadPursuitError(f"{shown(edit)} is no edit: give a HeadEdit, or a file of one")
    if not isinstance(edit, HeadEdit):
        edit, origin = read_edit_file(edit)
    if chosen == "gguf":
        require_source(model, revision=revision)
        out_names(out)
        source = open_source(model, origin=origin, path=path, revision=revision, trust_remote_code=trust_remote_code)
        return _export_gguf(out, source, edit)
    own_folder = model.source.folder if isinstance(model, HeadModel) else local_folder(model, revision=revision)
    if not holds_export(out):
        require_new(out, source=own_folder)
    source = open_source(model, origin=origin, path=path, revision=revision, trust_remote_code=trust_remote_code)
    edited = edited_projections(edit, source)
    with locked(out, beside=True):
        if holds_export(out) and is_same_export(out, source, edit, format=chosen):
            changed = tuple(_changed(edited, chosen))
            return Export(folder=out, format=chosen, edit=edit, model=source.identity, changed=changed, already=True)
        require_new(out, source=own_folder)
        options: dict[str, Any] = {"max_rank": max_rank, "link": link, "about": about, "progress": progress}
        return _export(out, source, edit, edited, format=chosen, **options)


def format_of(out: Path, format: str | None) -> str:
    """The format of an export: the one that is asked for, else the one that its name tells.

    Raises:
        HeadPursuitError: there is no such format.
    """
    chosen = format or ("gguf" if out.suffix.lower() == SUFFIX else "checkpoint")
    check_choice(FORMATS, format=chosen)
    return chosen


def require_exportable(model: HeadModel, *, format: str) -> ExportSource:
    """Check that edits of a model can be exported in a format, before one is looked for.

    Raises:
        HeadPursuitError: as :func:`export`, of an edit of one head.
    """
    if format == "gguf":
        require_source(model, revision=None)
    source = open_source(model, origin=None, path="the edit", revision=None, trust_remote_code=False)
    edited = edited_projections(HeadEdit(model.anatomy.heads()[:1], scale=-1.0), source)
    if format in ("checkpoint", "gguf"):
        (require_gguf if format == "gguf" else require_patchable)(source, edited)
    return source


def _export_gguf(out: Path, source: ExportSource, edit: HeadEdit) -> Export:
    edited = edited_projections(edit, source)
    parts = require_gguf(source, edited)
    names = out_names(out, parts=len(parts))
    changed = tuple(_changed(edited, "gguf"))
    done = Export(folder=names[0], format="gguf", edit=edit, model=source.identity, changed=changed)
    with locked(names[0], beside=True):
        if _is_there(names, source, edit):
            return replace(done, already=True)
        with ExitStack() as held:
            stored, files = write_gguf(names, parts, edited, held=held)
            # The record comes first: a file with a name is a whole export, however the process ends.
            record, earlier = record_path(names[0]), record_path(parts[0].path)
            write_record(record, source, edit, edited, format="gguf", files=files, earlier=earlier)
        return replace(done, stored=stored)


def _is_there(names: Sequence[Path], source: ExportSource, edit: HeadEdit) -> bool:
    """Whether files are this export already.

    Raises:
        HeadPursuitError: they are something else.
    """
    there = [name for name in names if name.exists()]
    if there and holds_export(names[0]) and source.path is not None:
        found = read_record(names[0])
        ours = is_of(found, source, edit, format="gguf") and found.folder == str(source.path.resolve())
        own = names[0].resolve() == source.path.resolve()
        left = set(found.damaged(names[0])) if ours and not own else {one.name for one in there}
        if not left & {one.name for one in there}:
            return not left  # what is missing was not written before the process ended
    if there:
        raise HeadPursuitError(f"{there[0]} is there already: choose a new name, or delete it")
    return False


def _export(
    out: Path,
    source: ExportSource,
    edit: HeadEdit,
    edited: Sequence[EditedProjection],
    *,
    format: str,
    max_rank: int,
    link: bool,
    about: str,
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
        write_card(draft, source, edit, format=format, about=about)
        files, record = own_files(draft, format=format), record_path(draft)
        write_record(record, source, edit, edited, format=format, files=files, earlier=record)
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
        if format not in ("checkpoint", "gguf"):
            yield one.layer.projection
        elif one.stored is not None:
            yield one.stored.key
