"""A small dictionary, or many of them: everything in float64, and after one product nothing of width ``d``."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

# The squared norms are carried along in float32; this much of an atom's first norm covers their rounding over all steps.
_ROUNDING = 1e-4


class SmallDictionary:
    """Atoms of ``g`` small dictionaries as vectors of head space, for each of ``h`` heads (``p = h·g`` problems).

    A new direction's coefficients come from the dictionary's own Gram matrix by one step of a Cholesky factorisation, as
    in batch orthogonal matching pursuit (Rubinstein, Zibulevsky and Elad 2008), so no vector of width ``d`` is touched.

    `bounds` is as tight as a candidate's own norm, so there is nothing between it and `exact`.

    Args:
        images: ``y`` of every atom before the first step, shape ``(p, v, e)``, float64.
        gram: inner products of each dictionary's unit atoms, shape ``(g, v, v)``, float64; zero for padding.
        steps: the most steps that will be taken.
    """

    approximate = None

    def __init__(self, images: Float[Tensor, "p v e"], gram: Float[Tensor, "g v v"], *, steps: int) -> None:
        p, v, e = images.shape
        self.shape, self.width = (p, v), e
        self._images = images
        self._gram = gram
        self._dictionary = torch.arange(p, device=images.device) % len(gram)
        self._step = 0
        self._shadows = images.new_zeros(p, steps, e)
        self._coefficients = images.new_zeros(p, steps, v)
        self._short = images.float()
        self._energy = self._short.square().sum(dim=2)
        self._doubt = _ROUNDING * self._energy

    def bounds(self) -> Float[Tensor, "p v"]:
        """Upper bounds on ``‖y‖`` of all atoms at this step."""
        return (self._energy + self._doubt).clamp_min_(0).sqrt_()

    def exact(
        self, problems: Int64[Tensor, " m"], atoms: Int64[Tensor, "m c"]
    ) -> tuple[Float[Tensor, "m c e"], Float[Tensor, "m c 1"]]:
        """Float64 ``y`` of some unit atoms, and the length of each atom's part orthogonal to the chosen ones."""
        line = problems[:, None]
        y = self._images[line, atoms]
        if not self._step:
            return y, y.new_ones(*atoms.shape, 1)
        steps = torch.arange(self._step, device=atoms.device)
        c = self._coefficients[line[:, :, None], steps, atoms[:, :, None]]
        y = torch.baddbmm(y, c, self._shadows[problems, : self._step], alpha=-1)
        return y, (1 - c.square().sum(dim=2, keepdim=True)).clamp_min(0).sqrt()

    def commit(
        self, atoms: Int64[Tensor, " p"], y: Float[Tensor, "p e"], component: Float[Tensor, "p 1"], active: Bool[Tensor, " p"]
    ) -> tuple[Float[Tensor, "p e"], Float[Tensor, "p v"]]:
        """Take one atom a problem: its shadow ``u = A q``, and upper bounds on ``|q·d|`` for all atoms."""
        t = self._step
        line = torch.arange(len(atoms), device=atoms.device)
        share = torch.where(active[:, None], 1 / component.clamp_min(1e-12), 0)
        u = y * share
        history = self._coefficients[:, :t]
        own = history[line, :, atoms]
        c = self._gram[self._dictionary, atoms] - torch.bmm(own[:, None], history)[:, 0]
        c *= share
        b = torch.bmm(self._short, u.float()[:, :, None])[:, :, 0]
        if t:
            overlap = torch.bmm(self._shadows[:, :t], u[:, :, None])
            b -= torch.bmm(overlap.mT, history)[:, 0].float()
        change = c.float()
        self._energy.addcmul_(b, change, value=-2)
        self._energy.addcmul_(change.square(), u.square().sum(dim=1, keepdim=True).float())
        self._coefficients[:, t] = c
        self._shadows[:, t] = u
        self._step += 1
        return u, change.abs_().mul_(1 + 1e-6).add_(1e-7)
