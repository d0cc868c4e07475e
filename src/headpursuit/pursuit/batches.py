"""From inputs to results: batches of heads that fit in memory, and which field serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headpursuit.pursuit.bounds import screening_dtype, stated_precision
from headpursuit.pursuit.dictionary import Dictionary, rows_of
from headpursuit.pursuit.frame import Frame
from headpursuit.pursuit.gram import GramField
from headpursuit.pursuit.screened import pursue
from headpursuit.pursuit.wide import Vocabulary, WideField

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64
    from torch import Tensor

    from headpursuit.pursuit.rules import Criterion

# A dictionary of up to this many atoms is pursued in float64 by its own Gram matrix.
SMALL = 2048

# What one batch of heads may allocate besides its inputs; more heads are taken in turns.
MEMORY = 2**31

# More small problems than this at once fall out of the cache.
_TOGETHER = 128

# Bytes of projections in float64 at a time: few enough to find them in the cache.
_CONVERTED = 2**24

# Heads ``[a, b)`` and their ``W Wᵀ`` to a frame: from rows, or from moments.
FrameSource = Callable[[slice, "Tensor"], Frame]


@dataclass(frozen=True)
class Options:
    """What a caller may choose."""

    n_atoms: int
    criterion: Criterion
    center: bool
    normalize: bool


@dataclass(frozen=True)
class Found:
    """Results of ``g`` dictionaries and ``h`` heads: ``(g, h, k)``, ``(g, h, k)`` and ``(h,)``."""

    support: Int64[Tensor, "g h k"]
    explained_variance: Float[Tensor, "g h k"]
    silent: Bool[Tensor, " h"]


def pursue_dictionary(
    source: FrameSource, projection: Float[Tensor, "h e d"], atoms: Float[Tensor, "v d"] | Dictionary, options: Options
) -> Found:
    """All heads over one dictionary of any size."""
    D = rows_of(atoms)
    if len(D) <= SMALL:
        everything = torch.arange(len(D), device=D.device)[None]
        return pursue_lists(source, projection, D, everything, options)
    with stated_precision():
        vocabulary = _vocabulary(atoms)
        h, e, d = projection.shape
        steps = min(options.n_atoms, len(D))
        half = vocabulary.screened.element_size()
        per_head = len(D) * (half * (e + steps) + 32) + 8 * d * (e + steps)
        parts = []
        for heads in _batches(h, max(1, MEMORY // per_head)):
            W = projection[heads]
            frame = source(heads, _width(W))
            field = WideField(vocabulary, W, frame, steps=steps)
            gains = None if options.normalize else vocabulary.lengths[None]
            support, explained = pursue(field, frame, n_atoms=steps, gains=gains)
            parts.append(Found(support[None], explained[None], frame.silent))
    return _joined(parts, options.n_atoms)


def _vocabulary(atoms: Float[Tensor, "v d"] | Dictionary) -> Vocabulary:
    """The prepared rows; those of a `Dictionary` are prepared once, for the layers of a model share them."""
    D = rows_of(atoms)
    dtype = screening_dtype(D.device, D.dtype)
    held = atoms.prepared if isinstance(atoms, Dictionary) else {}
    if dtype not in held:
        held[dtype] = Vocabulary(D, dtype=dtype)
    return held[dtype]


def pursue_lists(
    source: FrameSource,
    projection: Float[Tensor, "h e d"],
    D: Float[Tensor, "v d"],
    index: Int64[Tensor, "g r"],
    options: Options,
) -> Found:
    """All heads over many small dictionaries, given as rows of `D` padded by -1."""
    h, e = projection.shape[:2]
    g, r = index.shape
    steps = min(options.n_atoms, r)
    per_problem = 8 * r * (3 * e + steps + 4)
    lists = max(1, min(g, _TOGETHER // 32, MEMORY // (8 * per_problem)))
    parts = []
    with stated_precision():
        for heads in _batches(h, max(1, min(_TOGETHER // lists, MEMORY // (per_problem * lists)))):
            W = projection[heads]
            frame = source(heads, _width(W))
            found = []
            for rows in _batches(g, lists):
                images, gram, lengths = _small_images(W, frame, D, index[rows])
                problems = frame.repeated(len(index[rows]))
                field = GramField(images, gram, steps=steps)
                gains = None if options.normalize else lengths.repeat(len(W), 1)
                local, explained = pursue(field, problems, n_atoms=steps, gains=gains)
                shape = len(W), -1, steps
                local, explained = local.view(shape).transpose(0, 1), explained.view(shape).transpose(0, 1)
                named = index[rows][:, None].expand(-1, len(W), -1).gather(2, local.clamp_min(0))
                found.append((torch.where(local >= 0, named, -1), explained))
            parts.append(Found(torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found]), frame.silent))
    return _joined(parts, options.n_atoms)


def _small_images(
    W: Float[Tensor, "h e d"], frame: Frame, D: Float[Tensor, "v d"], index: Int64[Tensor, "g r"]
) -> tuple[Float[Tensor, "p r e"], Float[Tensor, "g r r"], Float[Tensor, "g r"]]:
    """Unit atoms in head space, their inner products, and their lengths, all in float64; zero for padding."""
    h, e, d = W.shape
    union, place = torch.unique(index.clamp_min(0), return_inverse=True)
    unit = D[union].double()
    lengths = torch.linalg.vector_norm(unit, dim=1)
    unit *= torch.where(lengths > 0, 1 / lengths, 0)[:, None]
    raw = unit.new_empty(h, len(unit), e)
    for heads in _batches(h, max(1, _CONVERTED // (8 * e * d))):
        operator = W[heads].double().reshape(-1, d)
        raw[heads] = (unit @ operator.T).view(len(unit), -1, e).transpose(0, 1)
    images = torch.bmm(raw, frame.factor)[:, place] * (index >= 0)[:, :, None]
    own = unit[place] * (index >= 0)[:, :, None]
    return images.reshape(-1, *images.shape[2:]), torch.bmm(own, own.mT), lengths[place]


def _width(W: Float[Tensor, "h e d"]) -> Float[Tensor, "h e e"]:
    """``W Wᵀ``; its use for weights and for total energies asks for no more than the inputs' own precision."""
    W = W.to(torch.promote_types(W.dtype, torch.float32))
    return torch.bmm(W, W.mT).double()


def _batches(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _joined(parts: list[Found], n_atoms: int) -> Found:
    """One result of all batches, widened to `n_atoms` columns as an early stop would be."""
    support = torch.cat([part.support for part in parts], dim=1).cpu()
    explained = torch.cat([part.explained_variance for part in parts], dim=1).cpu()
    silent = torch.cat([part.silent for part in parts]).cpu()
    missing = n_atoms - support.shape[2]
    if missing:
        support = torch.nn.functional.pad(support, (0, missing), value=-1)
        explained = torch.cat([explained, explained[:, :, -1:].expand(-1, -1, missing)], dim=2)
    return Found(support, explained, silent)
