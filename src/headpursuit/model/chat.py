"""A user's turn as the checkpoint's chat template writes it."""

import re
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.samples import Sample

_PROBE = "Zq7"
# What a template writes that takes a list of parts for a text.
_PRINTED_PARTS = re.compile(r"""\{\s*["']type["']\s*:\s*["'](text|image)["']""")


def apply_template(model: LoadedModel, sample: Sample) -> str:
    """The sample's text as the user's turn, up to where the model is to answer.

    Some templates take a turn as a text, some as a list of parts (text, image), some either. Which, is tried on a word of our
    own, with the form first that is usual for a model of that kind.

    Raises:
        HeadPursuitError: the template fails, or writes nothing of what the user says.
    """
    holder = model.processor if getattr(model.processor, "chat_template", None) else model.tokenizer
    placeholder = model.images.placeholder if model.images is not None and sample.image is not None else ""

    def render(text: str, *, in_parts: bool) -> str:
        content: Any = f"{placeholder}\n{text}" if placeholder else text
        if in_parts:
            image = [] if sample.image is None else [{"type": "image"}]
            content = [*image, {"type": "text", "text": text}]
        message = {"role": "user", "content": content}
        return holder.apply_chat_template([message], tokenize=False, add_generation_prompt=True)

    first = model.processor is not model.tokenizer
    readable: list[bool] = []
    failure: Exception | None = None
    try:
        for in_parts in (first, not first):
            try:
                read = render(_PROBE, in_parts=in_parts)
            except Exception as error:
                failure = error
                continue
            if _PROBE in read and not _PRINTED_PARTS.search(read):
                if placeholder in read:
                    return render(sample.text, in_parts=in_parts)
                readable.append(in_parts)
        if readable:
            return render(sample.text, in_parts=readable[0])
    except Exception as error:
        failure = error
    reason = "it leaves out what the user says" if failure is None else str(failure).strip().partition("\n")[0]
    raise HeadPursuitError(
        f"{sample.where or 'sample'}: the chat template of {model.source.id} cannot be used ({reason}): "
        "set the tokenizer's chat_template, or do without it, Sample(chat=False)"
    ) from failure
