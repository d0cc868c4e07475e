"""A model and its processor as they were loaded: what they take, and where they came from."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from headpursuit.errors import HeadPursuitError
from headpursuit.model.anatomy import Anatomy
from headpursuit.model.attention import has_encoder, reads_images_only
from headpursuit.model.checkpoint_files import StoredTensor, checkpoint_files, stored_tensors
from headpursuit.model.gguf_files import gguf_tensors
from headpursuit.model.images import ImageStyle


@dataclass(frozen=True)
class ModelSource:
    """The origin of a model.

    Attributes:
        id: Hub name, local folder, ``demo``, or the class name of a model that was built in memory.
        revision: commit of the Hub repository, or None.
        architecture: class name.
        folder: local folder that holds the checkpoint's files, or None when there is none.
        gguf: the GGUF file that it was read from (its first part, where there are several), or None.
    """

    id: str
    revision: str | None
    architecture: str
    folder: Path | None
    gguf: Path | None = None

    @property
    def path(self) -> Path | None:
        """The folder or the GGUF file."""
        return self.folder if self.gguf is None else self.gguf

    def stored(self) -> list[StoredTensor]:
        """The tensors of the checkpoint's files, from their headers alone; none where it has no files on this machine.

        Raises:
            HeadPursuitError: a file is missing, or cannot be read.
        """
        if self.gguf is not None:
            return gguf_tensors(self.gguf)
        return [] if self.folder is None else stored_tensors(checkpoint_files(self.folder))


@dataclass(frozen=True)
class LoadedModel:
    """A model and its processor, as far as texts and images have to fit them.

    Attributes:
        hf: the transformers model, as it was given.
        processor: its processor, or its tokenizer when it has no processor.
        anatomy: where its heads are.
        source: where it came from.
        images: how the processor takes images, or None for a text model.
    """

    hf: PreTrainedModel
    processor: Any
    anatomy: Anatomy
    source: ModelSource
    images: ImageStyle | None = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def has_chat_template(self) -> bool:
        """Whether the processor knows how a user's turn is written."""
        return bool(getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None))

    @property
    def n_embeddings(self) -> int | None:
        """Rows of the table in which tokens are looked up, or None where the model has no such table."""
        table = self._embeddings
        return None if table is None else len(table)

    @property
    def padding_id(self) -> int:
        """The token of padding, which is masked: the tokenizer's own where the model can look it up, else one that it can.

        What is masked still runs through the model, and a row that is not finite would spoil the others: 0 times NaN is NaN.
        """
        tokenizer, table = self.tokenizer, self._embeddings
        named = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
        choices = [token for token in (*named, 0, 1) if token is not None and token != self.anatomy.image_token_id]
        if table is None:
            return choices[0]
        usable = (token for token in choices if token < len(table) and (table.is_meta or bool(table[token].isfinite().all())))
        return next(usable, choices[0])

    @property
    def _embeddings(self) -> Tensor | None:
        try:
            table = getattr(self.hf.get_input_embeddings(), "weight", None)
        except (AttributeError, NotImplementedError):
            return None
        return table if isinstance(table, Tensor) and table.ndim == 2 else None

    @property
    def device(self) -> torch.device:
        """The device that inputs go to; where weights are offloaded, what runs them moves them on."""
        devices = (weight.device for weight in self.hf.parameters() if not weight.is_meta)
        return next(devices, torch.device("cpu"))

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder reads the prompt, so that the heads see only what the decoder writes."""
        return has_encoder(self.hf)

    @property
    def encodes_text(self) -> bool:
        """Whether the encoder reads text; one that reads images alone leaves the text to the decoder, as its beginning."""
        return self.has_encoder and not reads_images_only(self.hf)

    @property
    def attends_across(self) -> bool:
        """Whether an image is looked at from outside the tokens that the heads see, so that none stands for a patch."""
        return self.has_encoder or self.anatomy.across or self.anatomy.attends_across

    @property
    def start_token(self) -> int:
        """The token that an encoder's decoder begins with.

        Raises:
            HeadPursuitError: nothing says which.
        """
        config = self.hf.config
        holders = [getattr(self.hf, "generation_config", None), config, config.get_text_config(decoder=True), self.tokenizer]
        for name in ("decoder_start_token_id", "bos_token_id"):
            for holder in holders:
                if isinstance(found := getattr(holder, name, None), int):
                    return found
        raise HeadPursuitError(
            f"nothing says which token the decoder of {self.source.architecture} begins with: "
            "set model.generation_config.decoder_start_token_id"
        )

    def takes(self, name: str) -> bool:
        """Whether the model's ``forward`` has an argument of that name, adapters around it aside."""
        inner = cast("Any", self.hf)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        return name in inspect.signature(inner.forward).parameters

    def new_tokens(self, inputs: Mapping[str, Tensor], written: Tensor) -> Tensor:
        """The tokens that transformers' ``generate`` added to those ``(b, t)`` that it was given, once or several times a row.

        Raises:
            HeadPursuitError: it did not go on from them (BLIP's takes the last one away), so that the new ones cannot be told.
        """
        given = inputs["decoder_input_ids" if self.has_encoder else "input_ids"]
        given = given.repeat_interleave(len(written) // len(given), dim=0)
        if not torch.equal(written[:, : given.shape[1]], given):
            raise HeadPursuitError(
                f"{self.source.architecture} does not go on from the prompt that it is given when it generates, so what is new "
                "cannot be told from the prompt: call the transformers model's own generate inside the edit"
            )
        return written[:, given.shape[1] :]
