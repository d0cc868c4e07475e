"""From samples to the tensors that a model takes: chat template, images, padding, and which token is what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool
from PIL.Image import Image
from torch import Tensor
from transformers import GenerationMixin

from headpursuit.errors import HeadPursuitError
from headpursuit.model.images import patch_tokens
from headpursuit.model.loaded import LoadedModel
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
        real: tokens that are not padding, shape ``(b, t)``: those that the decoder's heads see, which behind an encoder are
            the ones that the decoder itself has written.
        image: tokens that stand for an image patch, shape ``(b, t)``.
        answer: tokens that belong to the target, shape ``(b, t)``.
    """

    inputs: dict[str, Tensor]
    real: Bool[Tensor, "b t"]
    image: Bool[Tensor, "b t"]
    answer: Bool[Tensor, "b t"]


def make_prompt(model: LoadedModel, sample: Sample) -> Prompt:
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
    begins = model.encodes_text or not text  # nothing stands before it that it would have to be parted from
    if target is not None and not begins and not text.endswith((" ", "\n")) and not target.startswith((" ", "\n")):
        target = f" {target}"
    return Prompt(text=text, image=image, target=target, where=sample.where or "sample")


def collate(
    model: LoadedModel, prompts: Sequence[Prompt], *, side: Literal["left", "right"], with_target: bool = False
) -> Batch:
    """Tokenize prompts together.

    Args:
        model: whose processor is used.
        prompts: at least one.
        side: where padding goes; ``right`` to read activations (a causal model never sees it), ``left`` to generate.
        with_target: append the targets.

    Raises:
        HeadPursuitError: a prompt is empty, longer than the context, has no target where one is wanted, or no image where
            the model reads nothing else.
    """
    if with_target:
        for prompt in prompts:
            if not prompt.target:
                raise HeadPursuitError(f"{prompt.where}: no target; give one, or choose positions that need none")
    if model.has_encoder:
        return _collate_for_encoder(model, prompts, side=side, with_target=with_target)
    inputs = _encode(model, prompts, [prompt.text for prompt in prompts], side="right" if with_target else side)
    answer = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    if with_target:
        inputs, answer = _append_targets(model, prompts, inputs, side=side)
        if model.anatomy.prefix_sees_ahead:  # the model never sees what it has not written yet
            inputs["token_type_ids"] = answer.long()
    real = inputs["attention_mask"].bool()
    _check_lengths(model, prompts, real.sum(dim=1).tolist())
    image = patch_tokens(inputs, None if model.attends_across else model.anatomy.image_token_id)
    return Batch(inputs=inputs, real=real, image=image & real, answer=answer)


def _append_targets(
    model: LoadedModel, prompts: Sequence[Prompt], alone: dict[str, Tensor], *, side: Literal["left", "right"]
) -> tuple[dict[str, Tensor], Tensor]:
    """Prompts with their targets, and which tokens are the targets'.

    Prompt and target are tokenized together, as one text. Where the prompt's tokens do not begin that text (PaliGemma's
    processor ends every text with a line end of its own), the target's own tokens follow the prompt's, as when the model
    writes them.
    """
    hf: Any = model.hf
    if type(hf).generate is not GenerationMixin.generate:  # one of its own may begin elsewhere than where it is told to
        model.new_tokens(alone, hf.generate(**alone, max_new_tokens=1, do_sample=False))
    inputs = _encode(model, prompts, [prompt.text + (prompt.target or "") for prompt in prompts], side=side)
    before, whole = _rows(alone), _rows(inputs)
    if not all(row[: len(own)] == own for row, own in zip(whole, before, strict=True)):
        targets = [(prompt.target or "").removeprefix(" ") for prompt in prompts]
        whole = [
            own + model.tokenizer(target, add_special_tokens=False)["input_ids"]
            for own, target in zip(before, targets, strict=True)
        ]
        inputs = _lengthened(model, alone, whole, side=side)
    lengths = torch.tensor([len(own) for own in before], device=model.device)
    real = inputs["attention_mask"].bool()
    return inputs, real & (real.cumsum(dim=1) > lengths[:, None])


def _rows(inputs: dict[str, Tensor]) -> list[list[int]]:
    real = inputs["attention_mask"].bool()
    return [row[kept].tolist() for row, kept in zip(inputs["input_ids"], real, strict=True)]


def _lengthened(model: LoadedModel, alone: dict[str, Tensor], rows: list[list[int]], *, side: str) -> dict[str, Tensor]:
    """The same inputs with more text behind each row; whatever else a processor says of each token goes on as at the last."""
    padded = model.tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt").to(model.device)
    ids, mask = padded["input_ids"], padded["attention_mask"]
    inputs = {**alone, "input_ids": ids, "attention_mask": mask}
    for name, value in alone.items():
        if name not in ("input_ids", "attention_mask") and value.shape[:2] == alone["input_ids"].shape:
            inputs[name] = value.new_zeros(*ids.shape, *value.shape[2:])
            for row, kept in enumerate(alone["attention_mask"].bool()):
                own = value[row][kept]
                more = own[-1:].expand(len(rows[row]) - len(own), *own.shape[1:])
                inputs[name][row, mask[row].bool()] = torch.cat([own, more])
    return inputs


def _collate_for_encoder(
    model: LoadedModel, prompts: Sequence[Prompt], *, side: Literal["left", "right"], with_target: bool
) -> Batch:
    """The encoder's inputs, and what the decoder has written so far: its start token, then the target.

    An encoder that reads images alone leaves the text to the decoder, which begins with it.
    """
    if model.encodes_text:
        inputs = _encode(model, prompts, [prompt.text for prompt in prompts], side="right")
        openings = [""] * len(prompts)
    else:
        inputs = _encode_images(model, prompts)
        openings = [prompt.text for prompt in prompts]

    def ids(text: str) -> list[int]:
        return model.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    before = [[model.start_token, *ids(opening)] for opening in openings]
    written = before
    if with_target:
        written = [
            [model.start_token, *ids(opening + str(prompt.target))] for opening, prompt in zip(openings, prompts, strict=True)
        ]
    padded = model.tokenizer.pad({"input_ids": written}, padding_side=side, return_tensors="pt").to(model.device)
    real = padded["attention_mask"].bool()
    _check_lengths(model, prompts, real.sum(dim=1).tolist())
    inputs["decoder_input_ids"] = padded["input_ids"]
    if model.takes("decoder_attention_mask"):
        inputs["decoder_attention_mask"] = padded["attention_mask"]
    lengths = torch.tensor([len(own) for own in before], device=real.device)
    answer = real & (real.cumsum(dim=1) > lengths[:, None]) if with_target else torch.zeros_like(real)
    return Batch(inputs=inputs, real=real, image=torch.zeros_like(real), answer=answer)


def _encode_images(model: LoadedModel, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    for prompt in prompts:
        if prompt.image is None:
            raise HeadPursuitError(f"{prompt.where}: {model.source.id} reads images only; give every sample an image")
    return _asked(model, images=[prompt.image for prompt in prompts], return_tensors="pt")


def _asked(model: LoadedModel, **request: Any) -> dict[str, Tensor]:
    """The tensors that a processor makes of a request, on the model's device, its pixels in the model's dtype."""
    try:
        encoded = model.processor(**request)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise HeadPursuitError(
            f"{type(model.processor).__name__} does not take these samples ({reason}): hand them over as it documents"
        ) from error
    tensors = {name: value.to(model.device) for name, value in encoded.items() if isinstance(value, torch.Tensor)}
    return {name: value.to(model.hf.dtype) if value.is_floating_point() else value for name, value in tensors.items()}


def _encode(model: LoadedModel, prompts: Sequence[Prompt], texts: list[str], *, side: str) -> dict[str, Tensor]:
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
        inputs = _asked(model, text=texts, images=model.images.arrange(images), **options)
    else:
        encoded = model.tokenizer(texts, **options)
        inputs = {name: value.to(model.device) for name, value in encoded.items()}
    inputs.pop("labels", None)  # PaliGemma's processor adds some
    if model.images is None or not model.takes("token_type_ids"):
        # GPT-2, GPT-J and CTRL would add the embedding of token 0 to every token, where a tokenizer gives types at all.
        inputs.pop("token_type_ids", None)
    else:  # Gemma 3 and PaliGemma see images (and PaliGemma the whole prompt) in both directions, by token type
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
    return inputs


def _check_lengths(model: LoadedModel, prompts: Sequence[Prompt], lengths: list[int]) -> None:
    context = model.anatomy.context
    for prompt, length in zip(prompts, lengths, strict=True):
        if length == 0:
            raise HeadPursuitError(f"{prompt.where}: the text is empty and has no tokens; leave it out")
        if context is not None and length > context:
            raise HeadPursuitError(
                f"{prompt.where}: {length} tokens, but {model.source.id} has a context of {context}; shorten the text"
            )


def _apply_template(model: LoadedModel, sample: Sample) -> str:
    content: Any = sample.text
    if model.processor is not model.tokenizer:
        content = [{"type": "text", "text": sample.text}]
        if sample.image is not None:
            content.insert(0, {"type": "image"})
    messages = [{"role": "user", "content": content}]
    return model.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
