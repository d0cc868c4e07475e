"""A checkpoint with an edit in its weights: the original's files, in which only the edited columns have other values."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.folder import files_beside, fill, require_own
from headpursuit.exporting.projections import FLOATS, EditedProjection, ExportSource
from headpursuit.model.checkpoint_files import StoredTensor, checkpoint_files
from headpursuit.model.load import whole_folder

_WAY_OUT = "export an adapter instead (--format lora or ia3)"


def require_patchable(source: ExportSource, edited: Sequence[EditedProjection]) -> Path:
    """Check that the edit can be written into the model's own files.

    Returns:
        The folder of the files.

    Raises:
        HeadPursuitError: the weights are packed, or not on this machine as the model holds them.
    """
    if source.quantised:
        raise HeadPursuitError(
            f"{source.identity['id']} is quantised ({source.quantised}), so that its columns cannot be scaled in the files: "
            f"{_WAY_OUT}, or edit the original model and quantise that"
        )
    if source.model.source.gguf is not None:
        raise HeadPursuitError(
            f"{source.identity['id']} is a GGUF file, and no folder of a checkpoint: export that form (--format gguf, a name "
            f"that ends in .gguf), or {_WAY_OUT}"
        )
    if source.folder is None or not source.stored:
        raise HeadPursuitError(
            f"{source.identity['id']} has no safetensors files on this machine that could be patched: give a local folder or "
            f"a model of the Hub, or {_WAY_OUT}"
        )
    for one in edited:
        if one.stored is None or one.stored.dtype not in FLOATS:
            kind = "" if one.stored is None else f" as {one.stored.dtype}"
            raise HeadPursuitError(
                f"{one.layer.projection}.weight is not stored{kind} in {source.folder} as the model holds it (fused, packed "
                f"or changed since): {_WAY_OUT}"
            )
    return source.folder if source.hub_id is None else whole_folder(source.hub_id, source.identity["revision"])


def write_checkpoint(
    draft: Path, folder: Path, edited: Sequence[EditedProjection], *, link: bool, progress: bool
) -> tuple[Path, ...]:
    """Fill a draft with the original's files, and patch the edited tensors in the copies.

    Args:
        draft: the folder that is made.
        folder: the original's.
        edited: what is patched, and where it lies.
        link: share the weights' files that are not edited with the original instead of copying them.
        progress: show a progress bar.

    Returns:
        Files of the original that were left out, relative to its folder: weights in other forms, and pickles.
    """
    weights = checkpoint_files(folder)
    require_own(folder, weights)
    patched = {one.stored.file.name for one in edited if one.stored is not None}
    shards = [Path(path.name) for path in weights]
    along, left_out = files_beside(folder, weights)
    linked = [name for name in shards if link and str(name) not in patched]
    fill(draft, folder, [*along, *(name for name in shards if name not in linked)], linked=linked, progress=progress)
    for one in edited:
        if one.stored is not None:
            _patch(draft / one.stored.file.name, one.stored, one)
    return tuple(left_out)


def _patch(copy: Path, stored: StoredTensor, edited: EditedProjection) -> None:
    scaled = scaled_weight(stored.read(), edited.columns, input_first=edited.input_first)
    if not torch.isfinite(scaled).all():
        raise HeadPursuitError(
            f"{stored.key}: the scaled weights do not fit {stored.dtype}: choose smaller scales, or {_WAY_OUT}"
        )
    copy.chmod(copy.stat().st_mode | 0o200)  # a model's cache may be kept read-only, and copies with it
    with copy.open("r+b") as file:
        file.seek(stored.begin)
        written = file.write(scaled.contiguous().view(torch.uint8).numpy().tobytes())
    if written != stored.end - stored.begin:
        raise HeadPursuitError(f"{stored.file}: {stored.key} has {stored.end - stored.begin} bytes, {written} were expected")


def scaled_weight(weight: Tensor, columns: Tensor, *, input_first: bool) -> Tensor:
    """A projection's weight with its input columns scaled, rounded once, in its own dtype.

    Args:
        weight: ``(d, h·e)``, or ``(h·e, d)`` where the input comes first.
        columns: factors, shape ``(h·e,)``; columns with factor 1 keep every bit.
        input_first: which of the two.
    """
    result = weight.clone()
    rows = result if input_first else result.T
    chosen = (columns != 1).nonzero().flatten()
    wide = rows[chosen].to(torch.promote_types(weight.dtype, torch.float32))
    rows[chosen] = (wide * columns[chosen].to(wide.dtype)[:, None]).to(weight.dtype)
    return result
