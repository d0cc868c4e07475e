"""The few tensors that explain heads: output projections, unembedding, the final norm's gain.

They come from a model in memory or straight from a checkpoint's safetensors shards or GGUF files, so that describing and
ranking need no model. Which tensor of the files is which is settled once, while the model is there, by comparing contents.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.model.checkpoint_files import find_by_content, tensor_hash, write_tensors
from headpursuit.model.gguf_files import gguf_header, is_gguf
from headpursuit.model.head_model import HeadModel
from headpursuit.model.norms import gain_of
from headpursuit.model.projection import module_heads, split_heads, stores_input_first, weight_of

UNEMBEDDING = "unembedding"
FINAL_NORM_GAIN = "final_norm_gain"
_NO_UNEMBEDDING = (
    "these heads stand in a vision tower, and no single linear map leads from there to the text, so that no token names what "
    "they write: give a dictionary of the tower's width, hp.describe(acts, dictionary=hp.pursuit.Dictionary(atoms, labels))"
)


class HeadWeights(Protocol):
    """The weights that a pursuit needs of a model."""

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """``W_h`` of every head of a layer, float32."""

    def unembedding(self) -> Float[Tensor, "v d"]:
        """One row a token, in the checkpoint's dtype."""

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """Gain of the norm before the unembedding, float32; ones when there is no norm."""


@dataclass(frozen=True)
class LiveWeights:
    """Read from a model in memory.

    Attributes:
        model: the model.
        through_norm: whether projections carry the gain of a norm behind them.
    """

    model: HeadModel
    through_norm: bool = False

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """See :class:`HeadWeights`."""
        found = self.model.anatomy.layer(layer)
        heads = module_heads(self.model.module(found.projection), found.n_heads)
        gain = self.gain_behind(layer)
        return heads if gain is None else heads * gain.to(heads.device)

    def gain_behind(self, layer: int) -> Float[Tensor, " d"] | None:
        """Gain of the norm behind a layer's projection, float32; None where there is none or it is not looked through."""
        found = self.model.anatomy.layer(layer)
        if not self.through_norm or found.norm is None:
            return None
        return gain_of(self.model.module(found.norm), self.model.anatomy.width)

    def unembedding(self) -> Float[Tensor, "v d"]:
        """See :class:`HeadWeights`. For a vision tower the rows are taken back through the one linear map to the text."""
        anatomy = self.model.anatomy
        rows = weight_of(self.model.module(anatomy.unembedding))
        if anatomy.part != "vision":
            return rows
        if anatomy.projector is None:
            raise HeadPursuitError(_NO_UNEMBEDDING)
        projector = self.model.module(anatomy.projector)
        weight = weight_of(projector)
        return rows @ (weight.T if stores_input_first(projector) else weight).to(rows.device, rows.dtype)

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """See :class:`HeadWeights`; found by probing, see :func:`headpursuit.model.norms.gain_of`."""
        anatomy = self.model.anatomy
        reference = weight_of(self.model.module(anatomy.unembedding))
        if anatomy.final_norm is None:
            return torch.ones(anatomy.width, device=reference.device)
        return gain_of(self.model.module(anatomy.final_norm), anatomy.width, like=reference)


@dataclass(frozen=True)
class FileWeights:
    """Read from safetensors or GGUF files, when asked for.

    Attributes:
        tensors: for each tensor (``L3``, ``unembedding``, ``final_norm_gain``) the file, when that was last written
            (nanoseconds), the key in it, the content's hash, and for a layer the number of heads and which way round the weight
            is stored.
    """

    tensors: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def check(self) -> None:
        """Check that no file was written since, or that the tensors in it are the same; they are checked again when read.

        Raises:
            HeadPursuitError: naming the first that is another, or cannot be read.
        """
        for entry in self.tensors.values():
            path = Path(entry["file"])
            if not path.is_file() or path.stat().st_mtime_ns != entry["written"]:
                self._read(entry)

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """See :class:`HeadWeights`."""
        entry = self._entry(f"L{layer}")
        heads = split_heads(self._read(entry), n_heads=entry["n_heads"], input_first=entry["input_first"]).float()
        gain = self.tensors.get(_gain_name(layer))
        return heads if gain is None else heads * self._read(gain)

    def unembedding(self) -> Float[Tensor, "v d"]:
        """See :class:`HeadWeights`."""
        return self._read(self._entry(UNEMBEDDING))

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """See :class:`HeadWeights`."""
        return self._read(self._entry(FINAL_NORM_GAIN))

    def _entry(self, name: str) -> Mapping[str, Any]:
        if name not in self.tensors:
            if name == UNEMBEDDING:
                raise HeadPursuitError(_NO_UNEMBEDDING)
            raise HeadPursuitError(f"the capture holds no {name}: its tensors are {', '.join(self.tensors)}")
        return self.tensors[name]

    def _read(self, entry: Mapping[str, Any]) -> Tensor:
        try:
            tensor = _stored_tensor(Path(entry["file"]), entry["key"])
        except (OSError, SafetensorError, HeadPursuitError) as error:
            raise HeadPursuitError(
                f"{entry['file']}: {entry['key']} cannot be read ({error}); "
                "the capture refers to this checkpoint, so put it back or capture again"
            ) from error
        if tensor_hash(tensor) != entry["sha256"]:
            raise HeadPursuitError(
                f"{entry['file']}: {entry['key']} is not what it was when this capture was made (written over, or damaged): "
                "put the checkpoint back, or capture again"
            )
        return tensor


def _stored_tensor(file: Path, key: str) -> Tensor:
    if not is_gguf(file):
        with safe_open(file, framework="pt") as shard:
            return shard.get_tensor(key)
    found = next((one for one in gguf_header(file).tensors if one.key == key), None)
    if found is None:
        raise HeadPursuitError("there is no such tensor")
    return found.read()


def _gain_name(layer: int) -> str:
    return f"L{layer}.gain"


def locate_weights(model: HeadModel, folder: Path, *, through_norm: bool = False) -> dict[str, dict[str, Any]]:
    """Find the tensors of :class:`FileWeights` in the model's own files; write those that are not there into ``folder``.

    Args:
        model: the model in memory, whose tensors are compared with the files' contents.
        folder: a capture folder; ``weights.safetensors`` is written there.
        through_norm: whether projections carry the gain of a norm behind them.

    Returns:
        What :class:`FileWeights` takes, with files named relative to ``folder`` where they lie in it.
    """
    shards = model.source.stored()
    entries: dict[str, dict[str, Any]] = {}
    live = LiveWeights(model, through_norm=through_norm)
    stored: dict[str, Tensor] = {FINAL_NORM_GAIN: live.final_norm_gain().cpu().contiguous()}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {}
    if model.anatomy.part != "vision":
        wanted[UNEMBEDDING] = (model.anatomy.unembedding, {})
    elif model.anatomy.projector is not None:
        stored[UNEMBEDDING] = live.unembedding().cpu().contiguous()
    for layer in model.anatomy.layers:
        gain = live.gain_behind(layer.index)
        if gain is not None:
            stored[_gain_name(layer.index)] = gain.cpu().contiguous()
        input_first = stores_input_first(model.module(layer.projection))
        wanted[f"L{layer.index}"] = (layer.projection, {"n_heads": layer.n_heads, "input_first": input_first})
    for name, (path, extra) in wanted.items():
        tensor = weight_of(model.module(path))
        found = find_by_content(f"{path}.weight", tensor, shards)
        if found is None:
            stored[name] = tensor.cpu().contiguous().clone()
        else:
            entries[name] = _entry_of(found.file.resolve(), found.key, found.read(), **extra)
    own = folder / "weights.safetensors"
    write_tensors(own, stored)
    for name, tensor in stored.items():
        extra = wanted[name][1] if name in wanted else {}
        # Without a time, which would make two captures of the same differ: it is checked whenever it is opened.
        entries[name] = {**_entry_of(own, name, tensor, **extra), "file": own.name, "written": 0}
    return entries


def _entry_of(file: Path, key: str, content: Tensor, **extra: Any) -> dict[str, Any]:
    return {"file": str(file), "key": key, "sha256": tensor_hash(content), "written": file.stat().st_mtime_ns, **extra}
