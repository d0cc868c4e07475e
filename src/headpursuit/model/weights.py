"""The few tensors that explain heads: output projections, unembedding, the final norm's gain.

They come from a model in memory or straight from a checkpoint's safetensors shards, so that describing and ranking need no
model. Which tensor of the files is which is settled once, while the model is there, by comparing contents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from headpursuit.errors import HeadPursuitError
from headpursuit.model.projection import module_heads, split_heads, stores_input_first, weight_of
from headpursuit.model.stored import checkpoint_files, find_by_content, stored_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor

    from headpursuit.model.head_model import HeadModel

UNEMBEDDING = "unembedding"
FINAL_NORM_GAIN = "final_norm_gain"


class HeadWeights(Protocol):
    """What a pursuit needs of a model."""

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """``W_h`` of every head of a layer, float32."""

    def unembedding(self) -> Float[Tensor, "v d"]:
        """One row a token, in the checkpoint's dtype."""

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """What the norm before the unembedding multiplies by, float32; ones when there is no norm."""


@dataclass(frozen=True)
class LiveWeights:
    """Read from a model in memory."""

    model: HeadModel

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """See :class:`HeadWeights`."""
        found = self.model.anatomy.layer(layer)
        return module_heads(self.model.module(found.projection), found.n_heads)

    def unembedding(self) -> Float[Tensor, "v d"]:
        """See :class:`HeadWeights`."""
        return weight_of(self.model.module(self.model.anatomy.unembedding))

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """See :class:`HeadWeights`; found by probing, so that a gain stored as ``1 + γ`` comes out right."""
        anatomy = self.model.anatomy
        reference = self.unembedding()
        probe = torch.ones(anatomy.width, dtype=reference.dtype, device=reference.device)
        probe[::2] = -1  # mean 0 and mean square 1: neither kind of norm changes it
        if anatomy.final_norm is None:
            return torch.ones_like(probe).float()
        norm = self.model.module(anatomy.final_norm)
        with torch.no_grad():
            return ((norm(probe[None]) - norm(-probe[None]))[0] / (2 * probe)).float()


@dataclass(frozen=True)
class FileWeights:
    """Read from safetensors files, when asked for.

    Attributes:
        tensors: for each tensor (``L3``, ``unembedding``, ``final_norm_gain``) the file, the key in it, and for a layer
            the number of heads and which way round the weight is stored.
    """

    tensors: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """See :class:`HeadWeights`."""
        entry = self._entry(f"L{layer}")
        return split_heads(self._read(entry), n_heads=entry["n_heads"], input_first=entry["input_first"]).float()

    def unembedding(self) -> Float[Tensor, "v d"]:
        """See :class:`HeadWeights`."""
        return self._read(self._entry(UNEMBEDDING))

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """See :class:`HeadWeights`."""
        return self._read(self._entry(FINAL_NORM_GAIN))

    def _entry(self, name: str) -> Mapping[str, Any]:
        if name not in self.tensors:
            raise HeadPursuitError(f"the capture holds no {name}: its tensors are {', '.join(self.tensors)}")
        return self.tensors[name]

    def _read(self, entry: Mapping[str, Any]) -> Tensor:
        try:
            with safe_open(entry["file"], framework="pt") as shard:
                return shard.get_tensor(entry["key"])
        except (OSError, SafetensorError) as error:
            raise HeadPursuitError(
                f"{entry['file']}: {entry['key']} cannot be read ({error}); "
                "the capture refers to this checkpoint, so put it back or capture again"
            ) from error


def locate_weights(model: HeadModel, folder: Path) -> dict[str, dict[str, Any]]:
    """Find the tensors of :class:`FileWeights` in the model's own files; write those that are not there into ``folder``.

    Args:
        model: the model in memory, whose tensors are compared with the files' contents.
        folder: a capture folder; ``weights.safetensors`` is written there.

    Returns:
        What :class:`FileWeights` takes, with files named relative to ``folder`` where they lie in it.
    """
    source = model.source.folder
    shards = [] if source is None else stored_tensors(checkpoint_files(source))
    entries: dict[str, dict[str, Any]] = {}
    stored: dict[str, Tensor] = {FINAL_NORM_GAIN: LiveWeights(model).final_norm_gain().cpu().contiguous()}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {UNEMBEDDING: (model.anatomy.unembedding, {})}
    for layer in model.anatomy.layers:
        input_first = stores_input_first(model.module(layer.projection))
        wanted[f"L{layer.index}"] = (layer.projection, {"n_heads": layer.n_heads, "input_first": input_first})
    for name, (path, extra) in wanted.items():
        tensor = weight_of(model.module(path))
        place = find_by_content(f"{path}.weight", tensor, shards)
        if place is None:
            stored[name] = tensor.cpu().contiguous().clone()
        else:
            entries[name] = {"file": str(place.file.resolve()), "key": place.key, **extra}
    own = folder / "weights.safetensors"
    save_file(stored, own)
    for name in stored:
        entries[name] = {"file": own.name, "key": name, **(wanted[name][1] if name in wanted else {})}
    return entries
