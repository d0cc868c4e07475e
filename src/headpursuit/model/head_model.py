"""A Hugging Face model seen as a set of heads; it is wrapped and never changed."""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from PIL.Image import Image
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.anatomy import Anatomy
from headpursuit.model.generation import as_asked, generating_by, seeded, written_by
from headpursuit.model.identity import unembedding_fingerprint
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.projection import weight_of
from headpursuit.model.samples import Sample
from headpursuit.model.tokenize import Batch, Prompt, collate, make_prompt

_PICTURE = re.compile(r"\bthis (?:picture|image|photo)", re.IGNORECASE)


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
        name = f"{self.anatomy.unembedding}.weight"
        return {
            "id": self.source.id,
            "revision": self.source.revision,
            "architecture": self.source.architecture,
            **({} if self.anatomy.part == "text" else {"part": self.anatomy.part}),
            "fingerprint": unembedding_fingerprint(weight, name=name, stored=self.source.stored()),
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
        image: Image | Path | str | Sequence[Any] | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 32,
        chat: bool = True,
        seed: int = 0,
        progress: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """Write on from each prompt.

        Args:
            prompts: a text or :class:`Sample`, or several.
            image: an image, or one for each prompt (None where it has none).
            max_new_tokens: how many tokens to write at most, 32 when left out; fewer, with a warning, where the context ends.
            batch_size: how many prompts run together, padded on the left.
            chat: put texts through the chat template, where the model has one. A Sample says so itself.
            seed: seed of whatever is drawn, for ``do_sample=True``; the caller's random state is left as it was.
            progress: show a progress bar.
            **options: anything that transformers' ``generate`` takes (``do_sample``, ``num_beams``, ``generation_config``, …)
                and that leaves text as what it gives. What is not asked for here is greedy, with one beam and without
                penalties, whatever the checkpoint's ``generation_config.json`` says.

        Returns:
            The new text alone; a string for one prompt, a list for several. With ``num_return_sequences`` above 1 a list of
            texts in place of each text.

        Raises:
            HeadPursuitError: a prompt is empty or fills the context, an image cannot be read, an option is not one of
                transformers' ``generate`` or has no meaning here.

        >>> model.generate("Which country has Paris as its capital?", max_new_tokens=8)
        ' France'
        >>> len(model.generate(["Which country has Rome as its capital?", "Name the opposite of hot."], max_new_tokens=8))
        2
        """
        check_counts(batch_size=batch_size)
        check_counts(*SEEDS, seed=seed)
        if isinstance(prompts, str | Sample):
            return self.generate(
                [prompts],
                image=None if image is None else [image],
                max_new_tokens=max_new_tokens,
                chat=chat,
                seed=seed,
                **options,
            )[0]
        samples = [prompt if isinstance(prompt, Sample) else Sample(text=prompt, chat=chat) for prompt in prompts]
        if image is not None:
            given = list(image)  # type: ignore[arg-type]
            if len(given) != len(samples):
                raise HeadPursuitError(f"{len(samples)} prompts but {len(given)} images: give one image (or None) a prompt")
            samples = [replace(sample, image=one) for sample, one in zip(samples, given, strict=True)]
        blind = next((one for one in samples if one.image is None and _PICTURE.search(one.text)), None)
        if blind is not None and self.images is not None:
            warnings.warn(
                f"{blind.where or 'prompt'}: {blind.text[:60]!r} speaks of a picture, and none is given: the answer is made "
                "up; give image=…",
                stacklevel=2,
            )
        config, more = as_asked(self, max_new_tokens=max_new_tokens, options=options)
        per_prompt = config.num_return_sequences or 1
        answers: dict[int, Any] = {}
        short = 0
        bar = tqdm(total=len(samples), desc="generate", unit="text", disable=not progress, leave=False)
        with bar, torch.no_grad(), evaluating(self.hf), seeded(seed), generating_by(self.hf, config):
            for start in range(0, len(samples), batch_size):
                chosen = [make_prompt(self, sample) for sample in samples[start : start + batch_size]]
                for rows, batch, room in self._batches(chosen, wanted=config.max_new_tokens):
                    short += len(rows) * (room < config.max_new_tokens)
                    written = written_by(self.hf, batch.inputs, config, max_new_tokens=room, **more)
                    texts = self.tokenizer.batch_decode(self.new_tokens(batch.inputs, written), skip_special_tokens=True)
                    for number, row in enumerate(rows):
                        own = texts[number * per_prompt : (number + 1) * per_prompt]
                        answers[start + row] = own if per_prompt > 1 else own[0]
                bar.update(len(chosen))
        if short:
            warnings.warn(
                f"{short} of {len(samples)} prompts leave less room than {config.max_new_tokens} new tokens in the context of "
                f"{self.anatomy.context}: writing stopped at its end; shorten them, or ask for fewer",
                stacklevel=2,
            )
        return [answers[row] for row in range(len(samples))]

    def _batches(self, prompts: Sequence[Prompt], *, wanted: int) -> Iterator[tuple[list[int], Batch, int]]:
        """Prompts that may be written on from together, and how far: those with room for all that is wanted, where padding
        does not tell; else those of one length."""
        batch = collate(self, prompts, side="left")
        lengths, context = batch.real.sum(dim=1).tolist(), self.anatomy.context
        full = next((prompt for prompt, length in zip(prompts, lengths, strict=True) if length == context), None)
        if full is not None:
            raise HeadPursuitError(
                f"{full.where}: its {context} tokens fill the context of {self.source.id}, so nothing can be written behind "
                "them; shorten the text"
            )
        rooms = [wanted if context is None else min(wanted, context - length) for length in lengths]
        apart = not self.anatomy.pads_left
        groups: dict[tuple[int, int], list[int]] = {}
        for row, (length, room) in enumerate(zip(lengths, rooms, strict=True)):
            groups.setdefault((length if apart else 0, room), []).append(row)
        for (_, room), rows in groups.items():
            alone = batch if len(groups) == 1 else collate(self, [prompts[row] for row in rows], side="left")
            yield rows, alone, room


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
