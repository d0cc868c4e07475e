"""The identity of a model, by which it is known again: heads and edits of one model mean nothing in another."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headpursuit.errors import HeadPursuitError
from headpursuit.model.checkpoint_files import StoredTensor, likely, tensor_hash

_known: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()


def unembedding_fingerprint(unembedding: Float[Tensor, "v d"], *, name: str = "", stored: Sequence[StoredTensor] = ()) -> str:
    """SHA-256 of about sixteen rows of the unembedding, in float32, shortened to 16 digits.

    Args:
        unembedding: the weight.
        name: its name in the model.
        stored: the tensors of the checkpoint. Where the weight is one of them, loaded in another dtype, the values of the
            checkpoint count: a model is the same in every dtype.
    """
    step = max(1, unembedding.shape[0] // 16)
    rows = unembedding.detach()[::step].cpu()
    for one in likely(name, unembedding.shape, stored):
        found = one.read_rows(range(0, unembedding.shape[0], step))
        if found.is_floating_point() and torch.equal(found.to(rows.dtype), rows):
            rows = found
            break
    return hashlib.sha256(rows.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def weights_fingerprint(hf: nn.Module) -> str:
    """SHA-256 over names, shapes, types and values of all weights, shortened to 16 digits.

    Unlike :func:`unembedding_fingerprint` it sees every value, so that a model whose heads were scaled is another one.
    """
    weights = sorted(hf.state_dict(keep_vars=True).items())
    # A pass over all weights takes seconds; changes in memory are seen by torch's counters.
    state = [(name, weight.data_ptr(), weight._version) for name, weight in weights if not weight.is_meta]
    if hf not in _known or _known[hf][0] != state:
        found = hashlib.sha256()
        for name, weight in weights:
            found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            if not weight.is_meta:
                found.update(tensor_hash(weight).encode())
        _known[hf] = state, found.hexdigest()[:16]
    return _known[hf][1]


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
