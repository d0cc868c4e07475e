"""From samples to the tensors that a model takes: chat template, images, padding, and which token is what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.model.images import patch_tokens

if TYPE_CHECKING:
    from jaxtyping import Bool
    from PIL.Image import Image
    from torch import Tensor

    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample


@dataclass(frozen=True)
class Prompt:
    """A sample as the model is asked it.

    Attributes:
        text: the text after the chat template, image placeholders included.
        image: the opened image, or None.
        target: the answer, joined to the text as the model would have written it, or None.
        where: where it came from, for messages.
    """

    text: str
    image: Image | None
    target: str | None
    where: str


@dataclass(frozen=True)
class Batch:
    """Prompts as tensors, padded to one length ``t``.

    Attributes:
        inputs: what ``model(**inputs)`` takes.
        real: tokens that are not padding, shape ``(b, t)``.
        image: tokens that stand for an image patch, shape ``(b, t)``.
        answer: tokens that belong to the target, shape ``(b, t)``.
    """

    inputs: dict[str, Tensor]
    real: Bool[Tensor, "b t"]
    image: Bool[Tensor, "b t"]
    answer: Bool[Tensor, "b t"]


def make_prompt(model: HeadModel, sample: Sample) -> Prompt:
    """Apply the chat template, where the model has one and the sample wants it, and open the image.

    Raises:
        HeadPursuitError: the image cannot be read, or the model takes none.
    """
    image = sample.open_image()
    if image is not None and model.images is None:
        raise HeadPursuitError(f"{sample.where or 'sample'}: {model.source.id} takes no images; leave the image out")
    text = _apply_template(model, sample) if sample.chat and model.has_chat_template else sample.text
    if image is not None and model.images is not None and model.images.placeholder not in text:
        text = f"{model.images.placeholder}\n{text}"
    target = sample.target
    if target is not None and not text.endswith((" ", "\n")) and not target.startswith((" ", "\n")):
        target = f" {target}"
    return Prompt(text=text, image=image, target=target, where=sample.where or "sample")


def collate(
    model: HeadModel, prompts: Sequence[Prompt], *, side: Literal["left", "right"], with_target: bool = False
) -> Batch:
    """Tokenize prompts together.

    Args:
        model: whose processor is used.
        prompts: at least one.
        side: where padding goes; ``right`` to read activations (a causal model never sees it), ``left`` to generate.
        with_target: append the targets.

    Raises:
        HeadPursuitError: a prompt is empty, longer than the context, or has no target where one is wanted.
    """
    texts = [prompt.text for prompt in prompts]
    lengths = None
    if with_target:
        for prompt in prompts:
            if not prompt.target:
                raise HeadPursuitError(f"{prompt.where}: no target; give one, or choose positions that need none")
        lengths = _encode(model, prompts, texts, side="right")["attention_mask"].sum(dim=1)
        texts = [prompt.text + (prompt.target or "") for prompt in prompts]
    inputs = _encode(model, prompts, texts, side=side)
    real = inputs["attention_mask"].bool()
    _check_lengths(model, prompts, real.sum(dim=1).tolist())
    image = patch_tokens(inputs, None if model.anatomy.attends_across else model.anatomy.image_token_id)
    answer = torch.zeros_like(real) if lengths is None else real & (real.cumsum(dim=1) > lengths[:, None])
    return Batch(inputs=inputs, real=real, image=image & real, answer=answer)


def _encode(model: HeadModel, prompts: Sequence[Prompt], texts: list[str], *, side: str) -> dict[str, Tensor]:
    # Chat templates often write the beginning-of-sequence token themselves; a second one changes every activation.
    start = model.tokenizer.bos_token
    options: dict[str, Any] = {
        "padding": True,
        "padding_side": side,
        "return_tensors": "pt",
        "add_special_tokens": not (start and texts[0].startswith(start)),
    }
    images = [prompt.image for prompt in prompts]
    if model.images is not None and any(image is not None for image in images):
        encoded = model.processor(text=texts, images=model.images.arrange(images), **options)
    else:
        encoded = model.tokenizer(texts, **options)
    inputs = {name: value.to(model.device) for name, value in encoded.items() if isinstance(value, torch.Tensor)}
    inputs.pop("labels", None)  # PaliGemma's processor adds some
    if model.images is None or not model.takes("token_type_ids"):
        # GPT-2, GPT-J and CTRL would add the embedding of token 0 to every token, where a tokenizer gives types at all.
        inputs.pop("token_type_ids", None)
    else:  # Gemma 3 and PaliGemma see images (and PaliGemma the whole prompt) in both directions, by token type
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
    return inputs


def _check_lengths(model: HeadModel, prompts: Sequence[Prompt], lengths: list[int]) -> None:
    context = model.anatomy.context
    for prompt, length in zip(prompts, lengths, strict=True):
        if length == 0:
            raise HeadPursuitError(f"{prompt.where}: the text is empty and has no tokens; leave it out")
        if context is not None and length > context:
            raise HeadPursuitError(
                f"{prompt.where}: {length} tokens, but {model.source.id} has a context of {context}; shorten the text"
            )


def _apply_template(model: HeadModel, sample: Sample) -> str:
    content: Any = sample.text
    if model.processor is not model.tokenizer:
        content = [{"type": "text", "text": sample.text}]
        if sample.image is not None:
            content.insert(0, {"type": "image"})
    messages = [{"role": "user", "content": content}]
    return model.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
