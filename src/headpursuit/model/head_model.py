"""A Hugging Face model seen as a set of heads; it is wrapped and never changed."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from tqdm.auto import tqdm

from headpursuit.errors import HeadPursuitError
from headpursuit.model.attention import has_encoder, reads_images_only
from headpursuit.model.identity import unembedding_fingerprint
from headpursuit.model.inputs import Batch, Prompt, collate, make_prompt
from headpursuit.model.projection import weight_of
from headpursuit.model.samples import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from headpursuit.model.anatomy import Anatomy
    from headpursuit.model.images import ImageStyle


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from.

    Attributes:
        id: Hub name, local folder, ``demo``, or the class name of a model that was built in memory.
        revision: commit of the Hub repository, or None.
        architecture: class name.
        folder: local folder that holds the checkpoint's files, or None when there is none.
    """

    id: str
    revision: str | None
    architecture: str
    folder: Path | None


@dataclass(frozen=True)
class HeadModel:
    """A model, its processor and its anatomy.

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

    def with_anatomy(self, anatomy: Anatomy) -> HeadModel:
        """The same model seen with another anatomy."""
        return replace(self, anatomy=anatomy)

    def check_paths(self) -> None:
        """Check that every module that the anatomy names exists.

        Raises:
            HeadPursuitError: naming the first that does not.
        """
        known = dict(self.hf.named_modules())
        named = [self.anatomy.unembedding, self.anatomy.decoder, self.anatomy.final_norm or ""]
        named += [path for layer in self.anatomy.layers for path in (layer.attention, layer.projection)]
        for path in named:
            if path not in known:
                close = difflib.get_close_matches(path, known, n=3)
                raise HeadPursuitError(
                    f"the anatomy names {path!r}, which {self.source.architecture} does not have; "
                    f"it has {', '.join(close) or ', '.join(list(known)[1:6])}"
                )

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def identity(self) -> dict[str, Any]:
        """Id, revision, architecture and a fingerprint of a few weights, by which a result knows its model again.

        The part stands there, too, where it is not the text's.
        """
        return {
            "id": self.source.id,
            "revision": self.source.revision,
            "architecture": self.source.architecture,
            **({} if self.anatomy.part == "text" else {"part": self.anatomy.part}),
            "fingerprint": unembedding_fingerprint(weight_of(self.module(self.anatomy.unembedding))),
        }

    @property
    def has_chat_template(self) -> bool:
        """Whether the processor knows how a user's turn is written."""
        return bool(getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None))

    @property
    def device(self) -> torch.device:
        """Where inputs go; where weights are offloaded, what runs them moves them on."""
        places = (weight.device for weight in self.hf.parameters() if not weight.is_meta)
        return next(places, torch.device("cpu"))

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
        holders = [
            getattr(self.hf, "generation_config", None),
            config,
            config.get_text_config(decoder=True),
            self.tokenizer,
        ]
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

    def module(self, path: str) -> nn.Module:
        """The submodule with that path, such as an anatomy names it."""
        return self.hf.get_submodule(path)

    @overload
    def generate(self, prompts: str | Sample, **options: Any) -> str: ...
    @overload
    def generate(self, prompts: Sequence[str | Sample], **options: Any) -> list[str]: ...
    def generate(
        self,
        prompts: str | Sample | Sequence[str | Sample],
        *,
        images: Image | Path | str | Sequence[Any] | None = None,
        max_new_tokens: int = 32,
        batch_size: int = 32,
        chat: bool = True,
        seed: int = 0,
        progress: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """Write on from each prompt.

        Args:
            prompts: a text or :class:`Sample`, or several.
            images: an image, or one for each prompt (None where it has none).
            max_new_tokens: how many tokens to write at most.
            batch_size: how many prompts run together, padded on the left.
            chat: put texts through the chat template, where the model has one. A Sample says so itself.
            seed: seed of the sampling, for ``do_sample=True``; the caller's random state is left as it was.
            progress: show a progress bar.
            **options: anything that transformers' ``generate`` takes (``do_sample``, ``temperature``, ``use_cache``, …).

        Returns:
            The new text alone; a string for one prompt, a list for several.

        Raises:
            HeadPursuitError: a prompt is empty or longer than the context, an image cannot be read.
        """
        if isinstance(prompts, str | Sample):
            return self.generate(
                [prompts],
                images=None if images is None else [images],
                max_new_tokens=max_new_tokens,
                chat=chat,
                seed=seed,
                **options,
            )[0]
        samples = [prompt if isinstance(prompt, Sample) else Sample(text=prompt, chat=chat) for prompt in prompts]
        if images is not None:
            given = list(images)  # type: ignore[arg-type]
            if len(given) != len(samples):
                raise HeadPursuitError(
                    f"{len(samples)} prompts but {len(given)} images: give one image (or None) a prompt"
                )
            samples = [replace(sample, image=image) for sample, image in zip(samples, given, strict=True)]
        answers: dict[int, str] = {}
        config = copy.deepcopy(cast("Any", self.hf).generation_config)
        config.pad_token_id = self.tokenizer.pad_token_id
        bar = tqdm(total=len(samples), desc="generate", unit="text", disable=not progress, leave=False)
        with bar, torch.no_grad(), evaluating(self.hf), torch.random.fork_rng(enabled=bool(options.get("do_sample"))):
            if options.get("do_sample"):
                torch.manual_seed(seed)
            for start in range(0, len(samples), batch_size):
                chosen = [make_prompt(self, sample) for sample in samples[start : start + batch_size]]
                for rows, batch in self._batches(chosen):
                    written = cast("Any", self.hf).generate(
                        **batch.inputs,
                        generation_config=config,
                        max_new_tokens=max_new_tokens,
                        **options,
                    )
                    texts = self.tokenizer.batch_decode(
                        self.new_tokens(batch.inputs, written), skip_special_tokens=True
                    )
                    answers.update({start + row: text for row, text in zip(rows, texts, strict=True)})
                bar.update(len(chosen))
        return [answers[row] for row in range(len(samples))]

    def new_tokens(self, inputs: Mapping[str, Tensor], written: Tensor) -> Tensor:
        """What transformers' ``generate`` added to the tokens ``(b, t)`` that it was given.

        Raises:
            HeadPursuitError: it did not go on from them (BLIP's takes the last one away), so that the new ones cannot be told.
        """
        given = inputs["decoder_input_ids" if self.has_encoder else "input_ids"]
        if not torch.equal(written[:, : given.shape[1]], given):
            raise HeadPursuitError(
                f"{self.source.architecture} does not go on from the prompt that it is given when it generates, so what is new "
                "cannot be told from the prompt: call the transformers model's own generate inside the edit"
            )
        return written[:, given.shape[1] :]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[tuple[list[int], Batch]]:
        """Prompts that may be generated from together: all of them, or those of one length where padding would tell."""
        batch = collate(self, prompts, side="left")
        if self.anatomy.pads_left or bool(batch.real.all()):
            yield list(range(len(prompts))), batch
            return
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(batch.real.sum(dim=1).tolist()):
            groups.setdefault(length, []).append(row)
        for rows in groups.values():
            yield rows, collate(self, [prompts[row] for row in rows], side="left")


@contextmanager
def evaluating(hf: PreTrainedModel) -> Iterator[None]:
    """Switch dropout off, and put every module's mode back afterwards."""
    training = [module for module in hf.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def accepted(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Those options that a function takes by name, since not every architecture knows every one."""
    parameters = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return options if takes_any else {name: value for name, value in options.items() if name in parameters}
