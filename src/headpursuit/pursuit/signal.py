"""The signal that a pursuit explains: the output of one head, kept as two factors."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError


@dataclass(frozen=True)
class HeadSignal:
    """The head output ``H = z @ projection`` (Head Pursuit, section 3), never materialised.

    Attributes:
        z: head activations, one row per sample, shape ``(n, e)``.
        projection: the head's rows of the output projection, shape ``(e, d)``.

    Raises:
        HeadPursuitError: the two factors do not fit together.

    >>> signal = HeadSignal(acts.z[2][:, 2], acts.weights.projection(2)[2])
    >>> signal.dense().shape
    torch.Size([24, 120])
    """

    z: Float[Tensor, "n e"]
    projection: Float[Tensor, "e d"]

    def __post_init__(self) -> None:
        if self.z.ndim != 2 or self.projection.ndim != 2 or self.z.shape[1] != self.projection.shape[0]:
            raise HeadPursuitError(
                f"a HeadSignal needs z (n, e) and projection (e, d), got {tuple(self.z.shape)} and "
                f"{tuple(self.projection.shape)}: the head width e must agree"
            )

    def dense(self) -> Float[Tensor, "n d"]:
        """Multiply the factors out, shape ``(n, d)``; for tests and small heads."""
        return self.z @ self.projection
