"""From samples to the tensors that a model takes: each sample becomes a row of tokens by itself, and rows are padded then."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool
from PIL.Image import Image
from torch import Tensor
from transformers import GenerationMixin

from headpursuit.errors import HeadPursuitError
from headpursuit.model.chat import apply_template
from headpursuit.model.images import patch_tokens
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.samples import Sample

# A line's end stands before a text whose tokens are wanted as they are inside of a longer one.
_LINE_BREAK = "\n"
# Texts that are tokenized at once for their fingerprint.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Prompt:
    """A sample as the model is asked it.

    Attributes:
        text: the text after the chat template, image placeholders included.
        image: the opened image, or None.
        target: the answer, joined to the text as the model would have written it, or None.
        where: where it came from, for messages.
        templated: whether the chat template wrote the text, and with it the special tokens.
    """

    text: str
    image: Image | None
    target: str | None
    where: str
    templated: bool = False


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


@dataclass(frozen=True)
class _Row:
    """One prompt's tokens.

    Attributes:
        ids: their ids.
        more: whatever else a processor says of each token, first dimension ``t``.
    """

    ids: list[int]
    more: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens samples have, images aside, and what tells these tokens from others.

    Attributes:
        fingerprint: SHA-256 over the ids of all of them, shortened to 16 digits.
        before: for each sample the number of its text's tokens.
        whole: the same with those of its target, where it has one.
    """

    fingerprint: str
    before: list[int]
    whole: list[int]


def make_prompt(model: LoadedModel, sample: Sample) -> Prompt:
    """Apply the chat template, where the model has one and the sample wants it, and open the image.

    Raises:
        HeadPursuitError: the image cannot be read, or the model takes none; the template fails.
    """
    image = sample.open_image()
    if image is not None and model.images is None:
        raise HeadPursuitError(f"{sample.where or 'sample'}: {model.source.id} takes no images; leave the image out")
    return replace(_in_words(model, sample), image=image)


def _in_words(model: LoadedModel, sample: Sample) -> Prompt:
    """The prompt without its image, which is not opened."""
    templated = sample.chat and model.has_chat_template
    text = apply_template(model, sample) if templated else sample.text
    if sample.image is not None and model.images is not None and model.images.placeholder not in text:
        text = f"{model.images.placeholder}\n{text}"
    target = sample.target
    begins = model.encodes_text or not text  # nothing stands before it that it would have to be parted from
    if target is not None and not begins and not text.endswith((" ", "\n")) and not target.startswith((" ", "\n")):
        target = f" {target}"
    return Prompt(text=text, image=None, target=target, where=sample.where or "sample", templated=templated)


def collate(
    model: LoadedModel, prompts: Sequence[Prompt], *, side: Literal["left", "right"], with_target: bool = False
) -> Batch:
    """Tokenize prompts, each by itself, and pad them to one length.

    Args:
        model: whose processor is used.
        prompts: at least one.
        side: where padding goes; ``right`` to read activations (a causal model never sees it), ``left`` to generate.
        with_target: append the targets.

    Raises:
        HeadPursuitError: a prompt is empty, longer than the context, has no target where one is wanted, no image where
            the model reads nothing else, or a token that the model has no row for.
    """
    if with_target:
        for prompt in prompts:
            if not prompt.target:
                raise HeadPursuitError(f"{prompt.where}: no target; give one, or choose positions that need none")
    if model.has_encoder:
        return _collate_for_encoder(model, prompts, side=side, with_target=with_target)
    rows, inputs = _read(model, prompts, [prompt.text for prompt in prompts])
    starts = [len(row.ids) for row in rows]
    if with_target:
        _check_generate(model, prompts, rows, inputs)
        wholes, _ = _read(model, prompts, [prompt.text + (prompt.target or "") for prompt in prompts])
        rows = [_followed(model, *given) for given in zip(prompts, rows, wholes, strict=True)]
    _check_rows(model, prompts, rows)
    padded, real = _padded(model, rows, side=side)
    answer = _behind(real, starts)
    inputs = _as_taken(model, {**inputs, **padded})
    if with_target and model.anatomy.prefix_sees_ahead:  # the model never sees what it has not written yet
        inputs["token_type_ids"] = answer.long()
    image = patch_tokens(inputs, None if model.attends_across else model.anatomy.image_token_id)
    return Batch(inputs=inputs, real=real, image=image & real, answer=answer)


def token_fingerprint(model: LoadedModel, samples: Sequence[Sample]) -> str:
    """SHA-256 over the ids of all tokens of all samples, with their targets, in 16 digits; see :func:`count_tokens`."""
    return count_tokens(model, samples).fingerprint


def count_tokens(model: LoadedModel, samples: Sequence[Sample], *, whole_hash: Any = None) -> TokenCounts:
    """Tokenize samples with their targets, and keep how many tokens each has and a fingerprint of them all.

    Whatever decides the tokens (template, special tokens, a date in a template, where a target begins) is seen in it. Images
    are not opened: each counts as its placeholder, beside the settings of what cuts it into patches. A sample that cannot be
    used has no tokens; who reads it will say so. A hash over more samples than these, where one is given, goes on with theirs.
    """
    found = hashlib.sha256()
    before: list[int] = []
    whole: list[int] = []
    if model.images is not None and any(sample.image is not None for sample in samples):
        found.update(model.processor.image_processor.to_json_string().encode())
    for first in range(0, len(samples), _AT_ONCE):
        for ids, n_before in _ids_with_targets(model, samples[first : first + _AT_ONCE]):
            told = json.dumps([ids, n_before]).encode()
            found.update(told)
            if whole_hash is not None:
                whole_hash.update(told)
            before.append(n_before)
            whole.append(len(ids))
    return TokenCounts(found.hexdigest()[:16], before=before, whole=whole)


def _ids_with_targets(model: LoadedModel, samples: Sequence[Sample]) -> Iterator[tuple[list[int], int]]:
    """The ids of each sample's tokens, those of its target behind, and how many stand before the target."""
    prompts = []
    for sample in samples:
        try:
            prompts.append(_in_words(model, sample))
        except HeadPursuitError:
            prompts.append(Prompt(text="", image=None, target=None, where=sample.where))
    befores = _tokenized(model, prompts, [prompt.text for prompt in prompts])
    answered = [prompt for prompt in prompts if prompt.target]
    wholes = iter(_tokenized(model, answered, [f"{prompt.text}{prompt.target}" for prompt in answered]))
    for prompt, before in zip(prompts, befores, strict=True):
        yield _followed(model, prompt, _Row(before), _Row(next(wholes))).ids if prompt.target else before, len(before)


def _read(model: LoadedModel, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[list[_Row], dict[str, Tensor]]:
    """The tokens of each text, and the tensors of all images."""
    with_image = [model.images is not None and prompt.image is not None for prompt in prompts]
    if not any(with_image):
        return [_Row(ids) for ids in _tokenized(model, prompts, texts)], {}
    special = [_adds_special_tokens(model, prompt) for prompt in prompts]
    assert model.images is not None
    encoded = _asked(
        model,
        text=list(texts),
        images=model.images.arrange([prompt.image for prompt in prompts]),
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=special[0],
    )
    encoded.pop("labels", None)  # PaliGemma's processor adds some
    ids, mask = encoded.pop("input_ids"), encoded.pop("attention_mask").bool()
    per_token = [name for name, value in encoded.items() if value.shape[:2] == ids.shape and name.endswith(("_ids", "_mask"))]
    more = {name: encoded.pop(name) for name in per_token}
    if not all(with_image) or len(set(special)) > 1:  # a processor treats all texts of a request alike
        alone = [_read(model, [prompt], [text])[0][0] for prompt, text in zip(prompts, texts, strict=True)]
        return alone, encoded
    ending = [] if model.encodes_text or not special[0] else _ending(model)
    rows = []
    for row, kept in enumerate(mask):
        own = _without(ids[row][kept].tolist(), ending)
        rows.append(_Row(own, {name: value[row][kept][: len(own)] for name, value in more.items()}))
    return rows, encoded


def _tokenized(model: LoadedModel, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, with the special tokens that its own prompt wants."""
    special = [_adds_special_tokens(model, prompt) for prompt in prompts]
    found: dict[int, list[int]] = {}
    for adding in set(special):
        chosen = [row for row, wanted in enumerate(special) if wanted == adding]
        ids = _ids(model, [texts[row] for row in chosen], special=adding, wheres=[prompts[row].where for row in chosen])
        ending = [] if model.encodes_text or not adding else _ending(model)
        found.update(zip(chosen, (_without(row, ending) for row in ids), strict=True))
    return [found[row] for row in range(len(texts))]


def _adds_special_tokens(model: LoadedModel, prompt: Prompt) -> bool:
    """Whether the tokenizer's special tokens belong to a prompt: those that a template wrote are there, and never twice.

    As in transformers, templates of tokenizers write all of them, those of processors all or none.
    """
    if prompt.templated and model.processor is model.tokenizer:
        return False
    openings = (getattr(model.tokenizer, name, None) for name in ("bos_token", "cls_token"))
    return not prompt.text.startswith(tuple(opening for opening in openings if opening))


def _ending(model: LoadedModel) -> list[int]:
    """What the tokenizer puts behind a text where it adds special tokens; a model goes on from a prompt, not from its end."""
    bare, whole = (_ids(model, ["a"], special=special, wheres=["a letter"])[0] for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[start + len(bare) :]
    return [model.tokenizer.eos_token_id] if whole[-1:] == [model.tokenizer.eos_token_id] else []


def _without(ids: list[int], ending: list[int]) -> list[int]:
    return ids[: -len(ending)] if ending and ids[-len(ending) :] == ending else ids


def _ids(model: LoadedModel, texts: Sequence[str], *, special: bool, wheres: Sequence[str]) -> list[list[int]]:
    """The tokenizer's own ids of some texts."""
    try:
        return model.tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    except Exception as error:  # the tokenizers library raises bare exceptions
        if len(texts) > 1:
            return [_ids(model, [text], special=special, wheres=[where])[0] for text, where in zip(texts, wheres, strict=True)]
        reason = str(error).strip().partition("\n")[0]
        raise HeadPursuitError(
            f"{wheres[0]}: the tokenizer of {model.source.id} cannot read this text ({reason}): leave it out"
        ) from error


def _followed(model: LoadedModel, prompt: Prompt, own: _Row, whole: _Row) -> _Row:
    """A prompt's tokens and behind them its target's.

    Prompt and target are tokenized together, as one text. Where the prompt's tokens do not begin that text (it ends in a blank,
    or PaliGemma's processor has ended it with a line end), the target's own tokens follow the prompt's, as when the model
    writes them. Whatever else a processor says of each token then goes on as at the last.
    """
    if whole.ids[: len(own.ids)] == own.ids:
        return whole
    target = prompt.target or ""
    if own.ids and model.tokenizer.decode(own.ids[-1:])[-1:].isspace():
        target = target.removeprefix(" ")
    behind = _inside(model, target, where=prompt.where)
    more = {name: torch.cat([value, value[-1:].expand(len(behind), *value.shape[1:])]) for name, value in own.more.items()}
    return _Row(own.ids + behind, more)


def _inside(model: LoadedModel, text: str, *, where: str) -> list[int]:
    """A text's tokens as they are inside of a longer one, where none gets the blank that some tokenizers put before a text."""
    before, both, alone = _ids(model, [_LINE_BREAK, _LINE_BREAK + text, text], special=False, wheres=[where] * 3)
    return both[len(before) :] if both[: len(before)] == before and len(both) > len(before) else alone


def _padded(
    model: LoadedModel, rows: Sequence[_Row], *, side: Literal["left", "right"]
) -> tuple[dict[str, Tensor], Bool[Tensor, "b t"]]:
    """Rows as tensors of one length, and which of their tokens are real."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), model.padding_id, device=model.device)
    real = torch.zeros_like(ids, dtype=torch.bool)
    names = dict.fromkeys(name for row in rows for name in row.more)
    shapes = {name: [row.more[name].shape[1:] for row in rows if name in row.more] for name in names}
    more = {
        name: next(row.more[name] for row in rows if name in row.more).new_zeros(
            len(rows), length, *map(max, zip(*shapes[name], strict=True))
        )
        for name in names
    }
    for number, row in enumerate(rows):
        start = length - len(row.ids) if side == "left" else 0
        own = slice(start, start + len(row.ids))
        ids[number, own] = torch.tensor(row.ids, dtype=torch.long, device=ids.device)
        real[number, own] = True
        for name, value in row.more.items():
            wanted: tuple[Any, ...] = (number, own, *(slice(size) for size in value.shape[1:]))
            more[name][wanted] = value
    return {"input_ids": ids, "attention_mask": real.long(), **more}, real


def _behind(real: Bool[Tensor, "b t"], starts: Sequence[int]) -> Bool[Tensor, "b t"]:
    """Real tokens behind the first so many of each row."""
    return real & (real.cumsum(dim=1) > torch.tensor(starts, device=real.device)[:, None])


def _as_taken(model: LoadedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs with those token types that the model itself means."""
    if model.images is None or not model.takes("token_type_ids"):
        # GPT-2, GPT-J and CTRL would add the embedding of token 0 to every token, where a tokenizer gives types at all.
        inputs.pop("token_type_ids", None)
    else:  # Gemma 3 and PaliGemma see images (and PaliGemma the whole prompt) in both directions, by token type
        inputs.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]))
    return inputs


def _check_generate(model: LoadedModel, prompts: Sequence[Prompt], rows: Sequence[_Row], images: dict[str, Tensor]) -> None:
    """Ask a ``generate`` of a model's own once, which may begin elsewhere than where it is told to."""
    hf: Any = model.hf
    if type(hf).generate is not GenerationMixin.generate:
        _check_rows(model, prompts, rows)
        alone = _as_taken(model, {**images, **_padded(model, rows, side="right")[0]})
        model.new_tokens(alone, hf.generate(**alone, max_new_tokens=1, do_sample=False))


def _collate_for_encoder(
    model: LoadedModel, prompts: Sequence[Prompt], *, side: Literal["left", "right"], with_target: bool
) -> Batch:
    """The encoder's inputs, and what the decoder has written so far: its start token, then the target.

    An encoder that reads images alone leaves the text to the decoder, which begins with it.
    """
    if model.encodes_text:
        read, images = _read(model, prompts, [prompt.text for prompt in prompts])
        _check_rows(model, prompts, read)
        inputs = _as_taken(model, {**images, **_padded(model, read, side="right")[0]})
        openings = [""] * len(prompts)
    else:
        inputs = _encode_images(model, prompts)
        openings = [prompt.text for prompt in prompts]
    wheres = [prompt.where for prompt in prompts]

    def written(texts: Iterable[str]) -> list[_Row]:
        found = [list(texts), wheres]
        ids = _ids(model, found[0], special=False, wheres=wheres)
        return [_Row([model.start_token, *(row if text else [])]) for text, row in zip(found[0], ids, strict=True)]

    rows = written(openings)
    starts = [len(row.ids) for row in rows]
    if with_target:
        wholes = written(opening + str(prompt.target) for opening, prompt in zip(openings, prompts, strict=True))
        rows = [_followed(model, *given) for given in zip(prompts, rows, wholes, strict=True)]
    _check_rows(model, prompts, rows)
    padded, real = _padded(model, rows, side=side)
    inputs["decoder_input_ids"] = padded["input_ids"]
    if model.takes("decoder_attention_mask"):
        inputs["decoder_attention_mask"] = padded["attention_mask"]
    nothing = torch.zeros_like(real)
    return Batch(inputs=inputs, real=real, image=nothing, answer=_behind(real, starts) if with_target else nothing)


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


def _check_rows(model: LoadedModel, prompts: Sequence[Prompt], rows: Sequence[_Row]) -> None:
    context, known = model.anatomy.context, model.n_embeddings
    for prompt, row in zip(prompts, rows, strict=True):
        if not row.ids:
            raise HeadPursuitError(f"{prompt.where}: the text is empty and has no tokens; leave it out")
        if context is not None and len(row.ids) > context:
            raise HeadPursuitError(
                f"{prompt.where}: {len(row.ids)} tokens, but {model.source.id} has a context of {context}; shorten the text"
            )
        beyond = next((token for token in row.ids if known and token >= known and token != model.anatomy.image_token_id), None)
        if beyond is not None:
            raise HeadPursuitError(
                f"{prompt.where}: token {beyond} ({model.tokenizer.convert_ids_to_tokens(beyond)!r}) is beyond the {known} "
                f"embeddings of {model.source.id}: use the tokenizer that belongs to it, or resize_token_embeddings"
            )
