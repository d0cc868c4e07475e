"""A Hugging Face model seen as a set of heads; it is wrapped and never changed."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, overload

import torch
from PIL.Image import Image
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from headpursuit.errors import HeadPursuitError
from headpursuit.model.anatomy import Anatomy
from headpursuit.model.checkpoint_files import checkpoint_files, stored_tensors
from headpursuit.model.identity import unembedding_fingerprint
from headpursuit.model.inputs import Batch, Prompt, collate, make_prompt
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.projection import weight_of
from headpursuit.model.samples import Sample


@dataclass(frozen=True, repr=False)
class HeadModel(LoadedModel):
    """A model, its processor and its anatomy: what `hp.load` and `hp.wrap` return.

    Attributes: see :class:`headpursuit.model.loaded.LoadedModel`.
    """

    def __repr__(self) -> str:
        anatomy, name, dtype = self.anatomy, self.source.id, str(self.hf.dtype).removeprefix("torch.")
        of = "" if name == self.source.architecture else f"{name}: "
        n_heads = "/".join(str(count) for count in sorted({layer.n_heads for layer in anatomy.layers}))
        widths = "/".join(str(width) for width in sorted({layer.head_width for layer in anatomy.layers}))
        return (
            f"HeadModel({of}{self.source.architecture}, {anatomy.part} heads: {len(anatomy.layers)} layers × {n_heads} heads "
            f"of width {widths}, model width {anatomy.width}, {dtype} on {self.device})"
        )

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
    def identity(self) -> dict[str, Any]:
        """Id, revision, architecture and a fingerprint of a few weights, by which a result knows its model again.

        The part stands there, too, where it is not the text's.
        """
        weight = weight_of(self.module(self.anatomy.unembedding))
        stored = [] if self.source.folder is None else stored_tensors(checkpoint_files(self.source.folder))
        return {
            "id": self.source.id,
            "revision": self.source.revision,
            "architecture": self.source.architecture,
            **({} if self.anatomy.part == "text" else {"part": self.anatomy.part}),
            "fingerprint": unembedding_fingerprint(weight, name=f"{self.anatomy.unembedding}.weight", stored=stored),
        }

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

        >>> model.generate("What is the capital of France?", max_new_tokens=8)
        ' Paris'
        >>> len(model.generate(["What is the capital of France?", "What is the capital of Italy?"], max_new_tokens=8))
        2
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
                raise HeadPursuitError(f"{len(samples)} prompts but {len(given)} images: give one image (or None) a prompt")
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
                        **batch.inputs, generation_config=config, max_new_tokens=max_new_tokens, **options
                    )
                    texts = self.tokenizer.batch_decode(self.new_tokens(batch.inputs, written), skip_special_tokens=True)
                    answers.update({start + row: text for row, text in zip(rows, texts, strict=True)})
                bar.update(len(chosen))
        return [answers[row] for row in range(len(samples))]

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
