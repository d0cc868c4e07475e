"""A whole vocabulary seen from the heads of one layer: low-precision columns with proven errors, exact ones on demand."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from headpursuit.pursuit.bounds import accumulation, rounding, spectral_bound
from headpursuit.pursuit.products import inner_products
from headpursuit.pursuit.scores import Places
from headpursuit.pursuit.whitening import WhitenedHeads

# Rows of the dictionary at a time: few where they are only read, so that a second look finds them in the cache.
_READ = 64
_MULTIPLY = 2048

# A row shorter than this is scored exactly whenever it could matter.
_FAINT = 1e-15


class Vocabulary:
    """The dictionary in the screening dtype, with the exact length of every row and what rounding it cost.

    Attributes:
        atoms: the rows as given, shape ``(v, d)``.
        screened: the same rows in the screening dtype (the same tensor where the dtype is the same).
        inverse: one over each row's length, 0 for a zero row, shape ``(v,)``, float32.
        lengths: each row's length, float64.
        rounded: the largest length, relative to its row's, of what a conversion cut off a row.
        faint: 1 for rows so short that float32 products of them may underflow, else 0: nothing is known of these.
    """

    def __init__(self, atoms: Float[Tensor, "v d"], *, dtype: torch.dtype) -> None:
        self.atoms = atoms
        self.screened = atoms if atoms.dtype == dtype else torch.empty_like(atoms, dtype=dtype)
        self.lengths = torch.empty(len(atoms), dtype=torch.float64, device=atoms.device)
        rounded = torch.zeros((), dtype=torch.float64, device=atoms.device)
        dtype = torch.promote_types(atoms.dtype, torch.float32)
        for rows in _chunks(len(atoms), _READ if atoms.device.type == "cpu" else _MULTIPLY):
            exact = atoms[rows].to(dtype)
            lengths = torch.linalg.vector_norm(exact, dim=1, dtype=torch.float64)
            self.lengths[rows] = lengths
            if self.screened is not atoms:
                self.screened[rows] = exact
                cut = torch.linalg.vector_norm(exact - self.screened[rows], dim=1)
                rounded = torch.maximum(rounded, torch.where(lengths > _FAINT, cut / lengths, 0).max())
        self.rounded = float(rounded) * (1 + 1e-3)
        self.inverse = torch.where(self.lengths > _FAINT, 1 / self.lengths, 0).float()
        self.faint = ((self.lengths > 0) & (self.lengths <= _FAINT)).float()


class LargeDictionary:
    """Atoms of a vocabulary as vectors ``y`` of head space, for one batch of heads (a problem is a head).

    What is known of ``y = A (I − QQᵀ) d`` (``A = Lᵀ W``) is the low-precision image ``Ĝ ≈ A d`` of every atom
    and, for every direction ``q`` taken so far, the coefficients ``c ≈ q·d``. From these ``ŷ = Ĝ − Σ u c`` is formed anew
    for the few atoms that are asked for, so its error has no history, and nothing but ``c`` is worked out for all.
    """

    def __init__(
        self, vocabulary: Vocabulary, projection: Float[Tensor, "h e d"], whitened: WhitenedHeads, *, steps: int
    ) -> None:
        self._vocabulary = vocabulary
        v = len(vocabulary.atoms)
        h, e, d = projection.shape
        device, dtype = projection.device, vocabulary.screened.dtype
        self.shape, self.width = (h, v), e
        self._step = 0
        self._exact = torch.bmm(whitened.factor.mT, projection.double())
        self._gram = torch.bmm(self._exact, self._exact.mT)
        self._directions = torch.zeros(h, steps, d, dtype=torch.float64, device=device)
        self._shadows = torch.zeros(h, steps, e, dtype=torch.float64, device=device)
        self._coefficients = torch.empty(steps, h * v, dtype=dtype, device=device)

        self._unit = rounding(dtype)
        self._sum = accumulation(d, device)
        self._sum_e = accumulation(e + 4, device)
        self._relative = self._unit * (1 + self._unit) + self._sum_e
        self._norm = spectral_bound(self._gram)
        self._size = self._gram.diagonal(dim1=1, dim2=2).sum(1).sqrt()
        operator = self._exact.to(dtype)
        cut = self._exact - operator.double()
        self._cut = spectral_bound(torch.bmm(cut, cut.mT))
        del cut
        self._images = torch.empty(h, v, e, dtype=dtype, device=device)
        self._first = torch.empty(h, v, device=device)
        flat = operator.reshape(h * e, d)
        for rows in _chunks(v, _MULTIPLY):
            images = inner_products(vocabulary.screened[rows], flat).view(-1, h, e)
            self._images[:, rows] = images.transpose(0, 1)
            self._first[:, rows] = torch.linalg.vector_norm(images, dim=2, dtype=torch.float32).T
        self._first *= vocabulary.inverse
        self._update_errors()

    def bounds(self) -> Float[Tensor, "h v"] | None:
        """Upper bounds on ``‖y‖`` of all atoms before the first step."""
        if self._step:
            return None
        bound = self._first * (1 + self._relative + 3 * self._sum_e)
        bound.addcmul_(self._vocabulary.faint, self._norm.float()[:, None])
        return bound.add_(self._image_error[:, None]).mul_(1 + 1e-6)

    def approximate(self, places: Places) -> tuple[Float[Tensor, "m e"], Float[Tensor, " m"]]:
        """Float32 ``ŷ`` of some atoms, and bounds on ``‖y − ŷ‖``."""
        t, heads = self._step, places.problems
        inverse = self._vocabulary.inverse[places.atoms]
        y = self._images.view(-1, self.width).index_select(0, places.flat).float().mul_(inverse[:, None])
        error = self._first.view(-1)[places.flat] * self._relative + self._image_error[heads]
        error += self._vocabulary.faint[places.atoms] * self._norm.float()[heads]
        if t:
            past = self._coefficients[:t].index_select(1, places.flat).float()
            for head, part in places.parts():
                y[part].addmm_(past[:, part].T, self._shadows[head, :t].float(), alpha=-1)
            relative = 3 * self._unit + accumulation(t + 4, y.device) * t**0.5
            length = torch.linalg.vector_norm(past, dim=0)
            error += self._shadow_norm[heads] * (length * relative + t**0.5 * self._column_error)
        return y, error

    def exact(
        self, problems: Int64[Tensor, " m"], atoms: Int64[Tensor, "m c"]
    ) -> tuple[Float[Tensor, "m c e"], Float[Tensor, "m c d"]]:
        """Float64 ``y`` of some unit atoms, and the atoms' components orthogonal to the chosen ones."""
        lengths = self._vocabulary.lengths[atoms]
        r = self._vocabulary.atoms[atoms].double()
        r *= torch.where(lengths > 0, 1 / lengths, torch.zeros_like(lengths))[:, :, None]
        if len(problems) == self.shape[0]:
            q = self._directions[:, : self._step]
            r = r - torch.bmm(torch.bmm(r, q.mT), q)
            return torch.bmm(r, self._exact.mT), r
        y = r.new_empty(*r.shape[:2], self._exact.shape[1])
        # One by one: indexing by a list of heads would copy their operators.
        for i, head in enumerate(problems.tolist()):
            q = self._directions[head, : self._step]
            r[i] -= (r[i] @ q.T) @ q
            torch.mm(r[i], self._exact[head].T, out=y[i])
        return y, r

    def commit(
        self, atoms: Int64[Tensor, " h"], y: Float[Tensor, "h e"], component: Float[Tensor, "h d"], active: Bool[Tensor, " h"]
    ) -> tuple[Float[Tensor, "h e"], Float[Tensor, "h v"]]:
        """Take one atom a head: its shadow ``u = A q``, and upper bounds on ``|q·d|`` for all atoms."""
        t = self._step
        length = torch.linalg.vector_norm(component, dim=1, keepdim=True).clamp_min(1e-300)
        q, u = component / length, y / length
        if t:
            # A second pass keeps the directions orthogonal to rounding where the atom was nearly dependent.
            basis = self._directions[:, :t]
            q = q - torch.bmm(torch.bmm(q[:, None], basis.mT), basis)[:, 0]
            q = q / torch.linalg.vector_norm(q, dim=1, keepdim=True).clamp_min(1e-300)
        q = torch.where(active[:, None], q, torch.zeros_like(q))
        u = torch.where(active[:, None], u, torch.zeros_like(u))
        c = self._columns(q)
        self._coefficients[t] = c.view(-1)
        self._directions[:, t] = q
        self._shadows[:, t] = u
        self._step += 1
        self._update_errors()
        reach = c.abs_().mul_(1 + 3 * self._unit).add_(self._column_error + self._vocabulary.rounded)
        return u, reach.add_(self._vocabulary.faint)

    def _columns(self, q: Float[Tensor, "h d"]) -> Float[Tensor, "h v"]:
        """Low-precision ``q·d`` of all atoms, from ``q`` in as many parts as its precision takes."""
        dtype = self._vocabulary.screened.dtype
        high = q.to(dtype)
        if dtype == torch.float32:
            c = inner_products(self._vocabulary.screened, high).T
        else:
            parts = torch.cat([high, (q - high.double()).to(dtype)])
            both = inner_products(self._vocabulary.screened, parts).float().T
            c = both[: len(q)] + both[len(q) :]
        return torch.mul(c, self._vocabulary.inverse).contiguous()

    @property
    def _column_error(self) -> float:
        """Error of a coefficient besides a relative rounding: accumulators, and the tail of q."""
        return (2 * self._sum + 2 * self._unit**2) * (1 + self._vocabulary.rounded) * (1 + 4 * self._unit) + 1e-6

    def _update_errors(self) -> None:
        """Bound the error of any ``ŷ`` at this step: rounding of dictionary and operator, and accumulators."""
        error = (self._cut + self._sum * self._size * (1 + 2 * self._unit)) * (1 + self._vocabulary.rounded)
        shadows = self._shadows[:, : self._step]
        if self._vocabulary.rounded:
            error = error + spectral_bound(self._gram - torch.bmm(shadows.mT, shadows)) * self._vocabulary.rounded
        self._image_error = (error * (1 + 1e-5)).float()
        if self._step:
            self._shadow_norm = (spectral_bound(torch.bmm(shadows, shadows.mT)) * (1 + 1e-5)).float()


def _chunks(v: int, rows: int) -> list[slice]:
    return [slice(start, min(start + rows, v)) for start in range(0, v, rows)]
