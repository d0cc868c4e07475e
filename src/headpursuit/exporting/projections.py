"""The model that is exported, and the tensors of its files in which the edited heads lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.editing.edit import HeadEdit
from headpursuit.editing.where import ALL
from headpursuit.errors import HeadPursuitError
from headpursuit.model.anatomy import LayerAnatomy
from headpursuit.model.checkpoint_files import StoredTensor, find_by_content, find_by_name
from headpursuit.model.gguf_files import GgufTensor, find_attention_output
from headpursuit.model.gguf_loading import find_gguf
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import require_same_model, unembedding_fingerprint
from headpursuit.model.load import load, local_folder, outline
from headpursuit.model.projection import input_width, output_width, stores_input_first, weight_of

# What a weight is stored as where its columns can be scaled; anything else is packed.
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class ExportSource:
    """A model as an export needs it.

    Attributes:
        model: with its weights, or only its outline.
        identity: see :attr:`headpursuit.HeadModel.identity`.
        loaded: whether the weights are there.
        stored: the tensors of its files; empty where it has none on this machine.
    """

    model: HeadModel = field(repr=False)
    identity: Mapping[str, Any]
    loaded: bool
    stored: Sequence[StoredTensor] = field(repr=False)

    @property
    def folder(self) -> Path | None:
        """The folder of its files."""
        return self.model.source.folder

    @property
    def path(self) -> Path | None:
        """The folder of its files, or its GGUF file."""
        return self.model.source.path

    @property
    def hub_id(self) -> str | None:
        """Its name on the Hub, or None for a model that came from elsewhere."""
        source = self.model.source
        elsewhere = source.id in ("demo", source.architecture) or source.gguf is not None or Path(source.id).exists()
        return None if elsewhere else source.id

    @property
    def quantised(self) -> str | None:
        """Name of the way its weights are packed, or None where they are plain, as those read from a GGUF file are."""
        config = getattr(self.model.hf.config, "quantization_config", None)
        if config is None or self.model.source.gguf is not None:
            return None
        method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
        return str(getattr(method, "value", method) or "quantised")


@dataclass(frozen=True)
class EditedProjection:
    """An output projection that an edit changes.

    Attributes:
        layer: whose it is.
        columns: factor of every input column, shape ``(h·e,)``, float32.
        input_first: whether the module's weight is ``(h·e, d)``, as in GPT-2's ``Conv1D``, and not ``(d, h·e)``.
        stored: where its weight lies, or None where that is not known.
        module: the module, on the meta device where only an outline is there.
    """

    layer: LayerAnatomy
    columns: Float[Tensor, " he"] = field(repr=False)
    input_first: bool
    stored: StoredTensor | None
    module: torch.nn.Module = field(repr=False)

    @property
    def changed(self) -> Tensor:
        """Indices of the columns whose factor is not 1."""
        return (self.columns != 1).nonzero().flatten()

    def weight(self) -> Float[Tensor, "d he"]:
        """The weight as ``nn.Linear`` has it, on the CPU, from the model in memory or from its file."""
        weight = cast("Tensor", self.module.weight)
        held = self.stored.read() if self.stored is not None and weight.is_meta else weight_of(self.module)
        return held.cpu().T if self.input_first else held.cpu()


def open_source(
    model: HeadModel | str | Path, *, origin: Mapping[str, Any] | None, path: str, revision: str | None, trust_remote_code: bool
) -> ExportSource:
    """Look at a model that is to be exported, without loading it where its files prove what it is.

    Heads that come with the fingerprint of a model were proven on it. Where the checkpoint's files hold a tensor of that
    fingerprint, its structure says the rest; anything else is loaded, and proven again.

    Args:
        model: a model in memory, or what :func:`headpursuit.load` takes.
        origin: identity of the model that the edit belongs to, or None where that is not known.
        path: the edit's file, for messages.
        revision: commit, branch or tag on the Hub.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        HeadPursuitError: there is no such model, it is another one than the edit's, or it carries an adapter.
    """
    if not isinstance(model, HeadModel):
        seen = None if origin is None else _outlined(model, origin, revision=revision, trust_remote_code=trust_remote_code)
        if seen is not None:
            return seen
        model = load(model, revision=revision, device="cpu", trust_remote_code=trust_remote_code)
    if hasattr(model.hf, "peft_config"):
        raise HeadPursuitError(
            f"{model.source.id} carries an adapter, which an export would lose: merge it (merge_and_unload), save the result, "
            "and export that"
        )
    identity = model.identity
    if origin is not None:
        require_same_model(path, origin, identity)
    return ExportSource(model=model, identity=identity, loaded=True, stored=model.source.stored())


def edited_projections(edit: HeadEdit, source: ExportSource) -> tuple[EditedProjection, ...]:
    """The output projections that an edit changes, layer by layer.

    Raises:
        HeadPursuitError: the model has no such head, the edit holds for chosen tokens only or changes nothing, or two
            layers share one projection.
    """
    restricted = [str(where) for where in edit.token_groups if where != ALL]
    if restricted:
        raise HeadPursuitError(
            f"an edit of chosen tokens ({', '.join(restricted)}) cannot be written into weights, which serve every token: "
            "apply it while the model runs (edit.applied), or export it with where='all'"
        )
    model = source.model
    model.anatomy.require(edit.heads)
    found = []
    for index in sorted({factor.head.layer for factor in edit.factors if factor.scale != 1}):
        layer = model.anatomy.layer(index)
        module = model.module(layer.projection)
        _require_own_weight(model, layer, module)
        found.append(
            EditedProjection(
                layer=layer,
                columns=edit.column_scales(layer),
                input_first=stores_input_first(module),
                stored=_stored_weight(source, layer, module),
                module=module,
            )
        )
    if not found:
        raise HeadPursuitError(f"the edit ({edit}) changes nothing: every scale is 1")
    return tuple(found)


def _outlined(
    model: str | Path, origin: Mapping[str, Any], *, revision: str | None, trust_remote_code: bool
) -> ExportSource | None:
    """The model without its weights, where its files prove that it is the one meant and every projection is found in them."""
    if local_folder(model, revision=revision) is None and find_gguf(model, revision=revision) is None:
        return None
    try:
        seen = outline(model, revision=revision, trust_remote_code=trust_remote_code)
        stored = seen.source.stored()
    except HeadPursuitError:
        return None  # what cannot be outlined may still be loaded, which says what is wrong if it cannot
    source = ExportSource(
        model=seen,
        identity={
            "id": seen.source.id,
            "revision": seen.source.revision,
            "architecture": seen.source.architecture,
            "fingerprint": origin.get("fingerprint"),
        },
        loaded=False,
        stored=stored,
    )
    if source.quantised or origin.get("architecture") != seen.source.architecture or not _holds(source):
        return None
    found = (_stored_weight(source, layer, seen.module(layer.projection)) for layer in seen.anatomy.layers)
    return None if any(one is None for one in found) else source


def _holds(source: ExportSource) -> bool:
    """Whether a tensor of the files, shaped like the unembedding, has the fingerprint."""
    unembedding = source.model.module(source.model.anatomy.unembedding)
    shape = (output_width(unembedding), input_width(unembedding))
    alike = (one for one in source.stored if one.shape == shape and (one.dtype in FLOATS or isinstance(one, GgufTensor)))
    return any(unembedding_fingerprint(one.read()) == source.identity["fingerprint"] for one in alike)


def _stored_weight(source: ExportSource, layer: LayerAnatomy, module: torch.nn.Module) -> StoredTensor | None:
    name = f"{layer.projection}.weight"
    if not source.loaded:
        find = find_by_name if source.model.source.gguf is None else find_attention_output
        return find(name, cast("Tensor", module.weight).shape, source.stored)
    if source.quantised:
        return None
    return find_by_content(name, weight_of(module), source.stored)


def _require_own_weight(model: HeadModel, layer: LayerAnatomy, module: torch.nn.Module) -> None:
    """Refuse a weight that other modules use too: scaling it would edit them as well."""
    weight = getattr(module, "weight", None)
    names = [name for name, other in model.hf.named_parameters(remove_duplicate=False) if other is weight]
    if len(names) > 1:
        raise HeadPursuitError(
            f"L{layer.index} shares its output projection ({', '.join(names)}), so that its heads cannot be scaled alone in "
            "the weights: apply the edit while the model runs (edit.applied)"
        )
