"""From inputs to results: batches of heads that fit in memory, each pursued in the way that suits its dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from headpursuit.pursuit.bounds import screening_dtype, stated_precision
from headpursuit.pursuit.checks import Criterion
from headpursuit.pursuit.compiled import pursue_compiled, serves
from headpursuit.pursuit.dictionary import Dictionary, rows_of
from headpursuit.pursuit.large_dictionary import LargeDictionary, Vocabulary
from headpursuit.pursuit.screened import pursue
from headpursuit.pursuit.small_dictionary import SmallDictionary
from headpursuit.pursuit.whitening import WhitenedHeads, whiten_moments, whiten_rows

# A dictionary of up to this many atoms is pursued in float64 by its own Gram matrix.
SMALL = 2048

# What one batch of heads may allocate besides its inputs; more heads are taken in turns.
MEMORY = 2**31

# More small problems than this at once fall out of the cache.
_TOGETHER = 128

# Bytes of projections in float64 at a time: few enough to find them in the cache.
_CONVERTED = 2**23

# What was worked out about a dictionary, by dtype, for as long as the dictionary lives.
_PREPARED: WeakKeyDictionary[Dictionary, dict[torch.dtype, Vocabulary]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Options:
    """Options of a caller."""

    n_atoms: int
    criterion: Criterion
    center: bool
    normalize: bool


@dataclass(frozen=True)
class Signals:
    """The heads by their rows ``(n, h, e)``, or only by their second moments ``(h, e, e)``."""

    rows: Float[Tensor, "n h e"] | None = None
    moments: Float[Tensor, "h e e"] | None = None

    def whitened(self, heads: slice, width: Float[Tensor, "g e e"], options: Options) -> WhitenedHeads:
        """Some heads in whitened coordinates; `width` is their ``W Wᵀ``."""
        if self.rows is None:
            assert self.moments is not None
            return whiten_moments(self.moments[heads], width)
        return whiten_rows(self.rows[:, heads], width, criterion=options.criterion, center=options.center)


@dataclass(frozen=True)
class Found:
    """Results of ``g`` dictionaries and ``h`` heads: ``(g, h, k)``, ``(g, h, k)`` and ``(h,)``."""

    support: Int64[Tensor, "g h k"]
    explained_variance: Float[Tensor, "g h k"]
    silent: Bool[Tensor, " h"]


@torch.no_grad()
def pursue_dictionary(
    signals: Signals, projection: Float[Tensor, "h e d"], atoms: Float[Tensor, "v d"] | Dictionary, options: Options
) -> Found:
    """All heads over one dictionary of any size."""
    D = rows_of(atoms)
    if len(D) <= SMALL:
        everything = torch.arange(len(D), device=D.device)[None]
        return pursue_lists(signals, projection, D, everything, options)
    with stated_precision():
        vocabulary = _vocabulary(atoms)
        h, e, d = projection.shape
        steps = min(options.n_atoms, len(D))
        half = vocabulary.screened.element_size()
        per_head = len(D) * (half * (e + steps) + 32) + 8 * d * (e + steps)
        parts = []
        for heads in _batches(h, max(1, MEMORY // per_head)):
            W = projection[heads]
            whitened = signals.whitened(heads, _width(W), options)
            vectors = LargeDictionary(vocabulary, W, whitened, steps=steps)
            gains = None if options.normalize else vocabulary.lengths[None]
            support, explained = pursue(vectors, whitened, n_atoms=steps, gains=gains)
            parts.append(Found(support[None], explained[None], whitened.silent))
    return _joined(parts, options.n_atoms)


def _vocabulary(atoms: Float[Tensor, "v d"] | Dictionary) -> Vocabulary:
    """The prepared rows; those of a `Dictionary` are prepared once, for the layers of a model share them."""
    D = rows_of(atoms)
    dtype = screening_dtype(D.device, D.dtype)
    if not isinstance(atoms, Dictionary):
        return Vocabulary(D, dtype=dtype)
    held = _PREPARED.setdefault(atoms, {})
    if dtype not in held:
        held[dtype] = Vocabulary(D, dtype=dtype)
    return held[dtype]


@torch.no_grad()
def pursue_lists(
    signals: Signals, projection: Float[Tensor, "h e d"], D: Float[Tensor, "v d"], index: Int64[Tensor, "g r"], options: Options
) -> Found:
    """All heads over many small dictionaries, given as rows of `D` padded by -1."""
    h, e = projection.shape[:2]
    g, r = index.shape
    steps = min(options.n_atoms, r)
    compiled = signals.rows is not None and serves(signals.rows, r, criterion=options.criterion)
    if compiled:
        heads_at_once, lists = h, max(1, MEMORY // (16 * r * (projection.shape[2] + torch.get_num_threads() * e + r)))
    else:
        per_problem = 8 * r * (3 * e + steps + 4)
        lists = max(1, min(g, _TOGETHER // 32, MEMORY // (8 * per_problem)))
        heads_at_once = max(1, min(_TOGETHER // lists, MEMORY // (per_problem * lists)))
    parts = []
    with stated_precision():
        for heads in _batches(h, heads_at_once):
            W = projection[heads]
            solve = _by_correlations(signals, heads, W, options) if compiled else _by_bounds(signals, heads, W, options)
            found = [solve(_Atoms.of(D, index[rows]), steps) for rows in _batches(g, lists)]
            columns = zip(*found, strict=True)
            support, explained, silent = (torch.cat(column) for column in columns)
            parts.append(Found(support, explained, silent[: len(W)]))
    return _joined(parts, options.n_atoms)


@dataclass(frozen=True)
class _Atoms:
    """Several lists of atoms, in float64: each row that one of them names once, at unit length, and where the lists name it.

    `index` is as it was given and `row` ``(g, r)`` the same within `unit` ``(u, d)``, whose lengths were `lengths` ``(u,)``.
    """

    index: Int64[Tensor, "g r"]
    row: Int64[Tensor, "g r"]
    unit: Float64[Tensor, "u d"]
    lengths: Float64[Tensor, " u"]

    @classmethod
    def of(cls, D: Float[Tensor, "v d"], index: Int64[Tensor, "g r"]) -> _Atoms:
        union, row = torch.unique(index.clamp_min(0), return_inverse=True)
        unit = D[union].double()
        lengths = torch.linalg.vector_norm(unit, dim=1)
        unit *= torch.where(lengths > 0, 1 / lengths, 0)[:, None]
        return cls(index, row, unit, lengths)

    def images(self, W: Float[Tensor, "h e d"]) -> Float64[Tensor, "h u e"]:
        """The rows in head space, ``W d``."""
        h, e, d = W.shape
        raw = self.unit.new_empty(h, len(self.unit), e)
        for heads in _batches(h, max(1, _CONVERTED // (8 * e * d))):
            operator = W[heads].double().reshape(-1, d)
            raw[heads] = (operator @ self.unit.T).view(-1, e, len(self.unit)).mT
        return raw

    def gram(self) -> Float64[Tensor, "g r r"]:
        """Inner products within each list; zero for padding."""
        real = (self.index >= 0).double()
        products = torch.stack([rows @ rows.T for rows in (self.unit[row] for row in self.row)])
        return products * real[:, :, None] * real[:, None]

    def named(self, local: Int64[Tensor, "g h k"]) -> Int64[Tensor, "g h k"]:
        """Indices into the lists as rows of the dictionary."""
        rows = self.index[:, None].expand(-1, local.shape[1], -1).gather(2, local.clamp_min(0))
        return torch.where(local >= 0, rows, -1)


# Lists and steps to support ``(g, h, k)``, explained variance ``(g, h, k)`` and silent heads ``(h,)``.
_Solve = Callable[[_Atoms, int], "tuple[Tensor, Tensor, Tensor]"]


def _by_bounds(signals: Signals, heads: slice, W: Float[Tensor, "h e d"], options: Options) -> _Solve:
    whitened = signals.whitened(heads, _width(W), options)

    def solve(atoms: _Atoms, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        g = len(atoms.index)
        images = torch.bmm(atoms.images(W), whitened.factor)[:, atoms.row] * (atoms.index >= 0)[:, :, None]
        vectors = SmallDictionary(images.flatten(0, 1), atoms.gram(), steps=steps)
        gains = None if options.normalize else atoms.lengths[atoms.row].repeat(len(W), 1)
        local, explained = pursue(vectors, whitened.repeated(g), n_atoms=steps, gains=gains)
        shape = len(W), g, steps
        return atoms.named(local.view(shape).transpose(0, 1)), explained.view(shape).transpose(0, 1), whitened.silent

    return solve


def _by_correlations(signals: Signals, heads: slice, W: Float[Tensor, "h e d"], options: Options) -> _Solve:
    assert signals.rows is not None
    z = signals.rows[:, heads]

    def solve(atoms: _Atoms, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.where(atoms.index >= 0, atoms.row, -1)
        gains = None if options.normalize else atoms.lengths
        local, explained, silent = pursue_compiled(
            z, W, atoms.unit, atoms.gram(), rows, n_atoms=steps, center=options.center, gains=gains
        )
        return atoms.named(local), explained, silent

    return solve


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
