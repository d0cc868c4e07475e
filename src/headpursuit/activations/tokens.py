"""What a model reads of samples: token by token, with those that are an image's, the target's, and those that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from headpursuit.activations.positions import Positions, check_positions, position_mask
from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.samples import Sample, Samples, as_samples
from headpursuit.model.token_text import token_text
from headpursuit.model.tokenize import Batch, Prompt, collate, make_prompt


@dataclass(frozen=True, repr=False)
class Tokens:
    """One sample as the model reads it.

    Attributes:
        text: the text behind the chat template, as it was tokenized, its target included where it was read.
        ids: the ids of the tokens, without padding; behind an encoder, of those that the decoder has written.
        tokens: the same as text.
        image: for each token whether it stands for a patch of the image.
        target: for each token whether it is one of the target's.
        counted: for each token whether its activation counts at ``positions``.
        positions: which tokens count.
        encoder: the ids that an encoder reads; empty where there is none, or it reads images alone.
        where: where the sample came from.
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    image: tuple[bool, ...]
    target: tuple[bool, ...]
    counted: tuple[bool, ...]
    positions: Positions
    encoder: tuple[int, ...]
    where: str

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        lines = [f"{self.where}: {len(self)} tokens, positions {self.positions}"]
        for number, (token_id, token, *marks) in enumerate(zip(*self._columns(), strict=True)):
            said = ", ".join(name for name, holds in zip(("image", "target", "counted"), marks, strict=True) if holds)
            lines.append(f"{number:5} {token_id:7} {token!r:20} {said}".rstrip())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def _columns(self) -> tuple[tuple[Any, ...], ...]:
        return self.ids, self.tokens, self.image, self.target, self.counted


def tokens(model: ModelLike, samples: Samples, *, positions: Positions | None = None, limit: int | None = None) -> list[Tokens]:
    """What a model reads of samples, to be looked at before anything is measured; the model is not run.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: see :func:`headpursuit.model.samples.as_samples`.
        positions: which tokens count, see :func:`headpursuit.activations.positions.position_mask`; where it is left out,
            ``answer`` for samples with a target, and ``mean`` for others. A target is read for ``answer`` only.
        limit: only the first so many samples.

    Raises:
        HeadPursuitError: a sample cannot be used, or has no such token.

    >>> hp.tokens(model, [hp.Sample(text="a red circle", target="blue")])[0]
    sample: 8 tokens, positions answer
        0     271 'USER'
        1      29 ':'
        2     261 ' a'
        3     740 ' red'
        4     947 ' circle'
        5     275 ' ASSISTANT'
        6      29 ':'                  counted
        7     770 ' blue'              target
    """
    if positions is not None:
        check_positions(positions)
    check_counts(limit=limit)
    model = as_model(model)
    return [_read(model, sample, positions) for sample in as_samples(samples, limit=limit)]


def tokenize(model: LoadedModel, prompts: Sequence[Prompt], positions: Positions) -> tuple[Batch, Bool[Tensor, "b t"]]:
    """Prompts as a capture reads them, and the tokens that count.

    Raises:
        HeadPursuitError: a prompt cannot be tokenized, or has no such token.
    """
    if model.anatomy.part == "vision":
        for prompt in prompts:
            if prompt.image is None:
                raise HeadPursuitError(f"{prompt.where}: no image, and the vision tower reads nothing else; give one")
        batch = collate(model, prompts, side="right")
        return batch, batch.real
    if positions == "image" and model.attends_across:
        raise HeadPursuitError(
            f"{model.source.architecture} attends to the image from outside the text, so that no token stands for a patch; "
            "choose other positions"
        )
    batch = collate(model, prompts, side="right", with_target=positions == "answer")
    return batch, position_mask(positions, batch, prompts)


def _read(model: HeadModel, sample: Sample, positions: Positions | None) -> Tokens:
    counting: Positions = positions or ("answer" if sample.target else "mean")
    prompt = make_prompt(model, sample)
    batch, counted = tokenize(model, [prompt], counting)
    written = batch.inputs["decoder_input_ids" if model.has_encoder else "input_ids"][0].tolist()
    encoder = batch.inputs["input_ids"][0].tolist() if model.encodes_text else []
    return Tokens(
        text=prompt.text + (prompt.target or "") * (counting == "answer"),
        ids=tuple(written),
        tokens=tuple(token_text(model.tokenizer, token) for token in written),
        image=tuple(batch.image[0].tolist()),
        target=tuple(batch.answer[0].tolist()),
        counted=tuple(counted[0].tolist()),
        positions=counting,
        encoder=tuple(encoder),
        where=prompt.where,
    )
