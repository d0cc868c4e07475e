"""A GGUF file with an edit in its weights: the original's bytes, in which only the edited heads' scales have other values.

A block of a quantised type is a few float16 scales times small integers. Where every column of a block has one factor, that
factor times the scales is the block times the factor: exactly so for −1, 0 and powers of two that float16 has room for. What
cannot be had that way is stored as float32, which llama.cpp takes in any tensor.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.projections import EditedProjection, ExportSource
from headpursuit.files import drafted, file_hash
from headpursuit.model.gguf_files import GgufFile, GgufTensor, block_of, dequantised, gguf_parts, part_names
from headpursuit.model.gguf_joining import write_replaced
from headpursuit.model.gguf_loading import find_gguf
from headpursuit.model.head_model import HeadModel

SUFFIX = ".gguf"
# Where the float16 scales lie in a block, counted in bytes; what is multiplied by them all is the whole block.
_SCALES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("F16", "Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ3_S"), (0,)),
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S"), (0,)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
_WIDE = "F32"


@dataclass(frozen=True)
class StoredEdit:
    """A tensor of a GGUF file as an edit left it.

    Attributes:
        key: its name.
        was: its type in the original.
        now: its type in the export: the same, or F32 where no scales of the original's blocks are the edit.
        max_error: largest difference from the original's values times the scales, which are worked out in float64.
        relative_error: that difference in the Frobenius norm, over the norm of what was wanted.
    """

    key: str
    was: str
    now: str
    max_error: float
    relative_error: float

    @property
    def exact(self) -> bool:
        """Whether it is the edit, number by number."""
        return self.max_error == 0

    def __str__(self) -> str:
        kind = self.was if self.now == self.was else f"{self.was} → {self.now}"
        off = "exact" if self.exact else f"off by at most {self.max_error:.1e} (relative {self.relative_error:.1e})"
        return f"{self.key} {kind}, {off}"


def require_source(model: HeadModel | str | Path, *, revision: str | None) -> None:
    """Check that a model is a GGUF file, before anything is loaded.

    Raises:
        HeadPursuitError: it is something else.
    """
    found = model.source.gguf if isinstance(model, HeadModel) else find_gguf(model, revision=revision)
    if found is None:
        name = model.source.id if isinstance(model, HeadModel) else model
        raise HeadPursuitError(
            f"{name} is no GGUF file, whose bytes could be edited: export a checkpoint (--format checkpoint) and convert that, "
            "or give a .gguf file as the model"
        )


def require_gguf(source: ExportSource, edited: Sequence[EditedProjection]) -> tuple[GgufFile, ...]:
    """Check that the edit can be written into the model's own GGUF file.

    Returns:
        The headers of its parts.

    Raises:
        HeadPursuitError: its projections are not found in that file.
    """
    path = cast("Path", source.model.source.gguf)
    for one in edited:
        if not isinstance(one.stored, GgufTensor):
            raise HeadPursuitError(
                f"{one.layer.projection}.weight is not found in {path} as the model holds it (changed since, or stored in "
                "another form): apply the edit while the model runs (edit.applied)"
            )
    return gguf_parts(path)


def out_names(out: Path, *, parts: int = 1) -> list[Path]:
    """The files of an export, by the name that it was given: the file itself, or one a part.

    Raises:
        HeadPursuitError: the name is no GGUF file's, or another part's.
    """
    if out.suffix.lower() != SUFFIX:
        raise HeadPursuitError(f"{out} is to be a GGUF file: choose a name that ends in {SUFFIX}")
    if parts == 1:
        return [out]
    names = part_names(out)
    if len(names) == 1:
        names = part_names(out.with_name(f"{out.stem}-00001-of-{parts:05d}{out.suffix}"))
    if len(names) != parts:
        raise HeadPursuitError(
            f"{out} is named as a part of {len(names)}, the model has {parts}: choose a name without a number"
        )
    return names


def write_gguf(
    names: Sequence[Path], parts: Sequence[GgufFile], edited: Sequence[EditedProjection], *, held: ExitStack
) -> tuple[tuple[StoredEdit, ...], dict[str, str]]:
    """Write drafts of an export's files; they take their names when ``held`` is left.

    Args:
        names: the files, one a part.
        parts: the original's.
        edited: what is scaled, and where it lies.
        held: what keeps the drafts.

    Returns:
        Each edited tensor as it was stored, and the hash of each file by its name.

    Raises:
        HeadPursuitError: scaled weights are not finite, the disk is full, or a file cannot be written.
    """
    wanted = {one.stored.key: one for one in edited if one.stored is not None}
    stored: list[StoredEdit] = []
    hashes: dict[str, str] = {}
    for name, part in zip(names, parts, strict=True):
        for old in name.parent.glob(f".{name.name}.*.part"):  # of an export that was killed
            old.unlink()
        draft = held.enter_context(drafted(name))
        replaced: dict[str, tuple[str, bytes]] = {}
        for tensor in part.tensors:
            if tensor.key in wanted:
                kind, content, found = _scaled(tensor, wanted[tensor.key].columns.numpy())
                replaced[tensor.key] = kind, content
                stored.append(found)
        _require_room(draft, part, replaced)
        write_replaced(part, draft, replaced)
        hashes[name.name] = file_hash(draft)
    return tuple(stored), hashes


def _require_room(draft: Path, part: GgufFile, replaced: Mapping[str, tuple[str, bytes]]) -> None:
    more = sum(len(replaced[one.key][1]) - (one.end - one.begin) for one in part.tensors if one.key in replaced)
    needed, free = part.path.stat().st_size + more, shutil.disk_usage(draft.parent).free
    if needed > free:
        raise HeadPursuitError(
            f"{draft.parent} has {free / 1e9:.1f} GB left, the export needs {needed / 1e9:.1f} GB: make room, or choose "
            "another disk"
        )


def _scaled(tensor: GgufTensor, columns: np.ndarray) -> tuple[str, bytes, StoredEdit]:
    """Type and bytes of a tensor with its columns scaled, and how near they are."""
    raw, kind = tensor.raw(), tensor.dtype
    before = dequantised(raw, kind)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is seen below
        wanted = np.where(columns == 1, before, before * columns)
        own = scaled_blocks(raw, kind, columns)
        in_place = own is not None and np.array_equal(dequantised(own, kind), wanted)
    if not np.isfinite(wanted).all():
        raise HeadPursuitError(f"{tensor.file}: {tensor.key}: the scaled weights do not fit {_WIDE}: choose smaller scales")
    exact = before.astype(np.float64) * columns
    error, norm = np.abs(wanted - exact), np.linalg.norm(exact)
    relative = float(np.linalg.norm(error) / norm) if norm else 0.0
    now, content = (kind, own) if own is not None and in_place else (_WIDE, wanted.astype("<f4"))
    return now, content.tobytes(), StoredEdit(tensor.key, kind, now, float(error.max()), relative)


def scaled_blocks(raw: np.ndarray, kind: str, columns: np.ndarray) -> np.ndarray | None:
    """Rows of blocks with their scales multiplied, rounded to the scales' type; blocks with factor 1 keep every bit.

    Args:
        raw: bytes, shape ``(rows, blocks · size)``.
        kind: ggml's name of the type.
        columns: factor of every column, float32.

    Returns:
        None where the type has no such scales, or a block has columns of several factors.
    """
    block, size = block_of(kind)
    factors = columns.reshape(-1, block)
    if (factors != factors[:, :1]).any():
        return None
    changed = factors[:, 0] != 1
    factor = factors[changed, 0]
    made = np.array(raw).reshape(raw.shape[0], -1, size)
    blocks = made[:, changed]
    if kind == "F32":
        blocks = (blocks.view("<f4") * factor[:, None]).view(np.uint8)
    elif kind == "BF16":  # cut off rather than rounded: what is lost either way is seen when it is compared
        wide = (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32) * factor[:, None]
        blocks = (wide.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
    elif kind not in _SCALES:
        return None
    else:
        for at in _SCALES[kind]:
            field = np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")
            scaled = (field.astype(np.float32) * factor[:, None]).astype("<f2")
            blocks[..., at : at + 2] = np.ascontiguousarray(scaled).view(np.uint8)
    made[:, changed] = blocks
    return made.reshape(raw.shape)
