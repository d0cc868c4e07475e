"""The identity of a model, by which it is known again: heads and edits of one model mean nothing in another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float
    from torch import Tensor, nn

# A few values of each tensor tell trained weights apart, and cost no pass over the whole model.
_PROBED = 256


def unembedding_fingerprint(unembedding: Float[Tensor, "v d"]) -> str:
    """SHA-256 of about sixteen rows of the unembedding, in float32, shortened to 16 digits."""
    rows = unembedding[:: max(1, unembedding.shape[0] // 16)].float().cpu().contiguous()
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()[:16]


def weights_fingerprint(hf: nn.Module) -> str:
    """SHA-256 over names, shapes, types and a few values of all weights, shortened to 16 digits.

    Unlike :func:`unembedding_fingerprint` it sees a layer that was trained further.
    """
    found = hashlib.sha256()
    for name, weight in sorted(hf.state_dict().items()):
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if not weight.is_meta:
            flat = weight.detach().flatten()
            probe = flat[:: max(1, len(flat) // _PROBED)].cpu()
            found.update((probe.float() if probe.is_floating_point() else probe).numpy().tobytes())
    return found.hexdigest()[:16]


def require_same_model(path: str | Path, origin: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Check that a file of heads belongs to a model.

    Args:
        path: the file, for the message.
        origin: the model that it names.
        identity: the model at hand, see :attr:`headpursuit.HeadModel.identity`.

    Raises:
        HeadPursuitError: it is another model.
    """
    if origin.get("fingerprint") != identity["fingerprint"] or origin.get("architecture") != identity["architecture"]:
        raise HeadPursuitError(
            f"{path} holds heads of {origin.get('id')} ({origin.get('architecture')}), not of {identity['id']} "
            f"({identity['architecture']}): a head's number means nothing in another model, so rank this one"
        )
