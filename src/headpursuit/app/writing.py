"""What a model writes unedited, edited and with random heads in the edit's place, token by token and side by side."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
from transformers import TextIteratorStreamer

from headpursuit.activations.measures import concept_log_odds, with_targets
from headpursuit.app.playground import Found, Playground
from headpursuit.concepts.counting import count_words
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.model.samples import Sample
from headpursuit.ranking.controls import control_edits

# As the paper draws its controls; the first is read, all are measured.
_DRAWS = 10
# Only of these tokens is the same meant along a given text as while it was written.
_ALONG = {"all", "image", "text"}


@dataclass(frozen=True)
class Column:
    """One text beside the others.

    Attributes:
        title: ``unedited``, ``edited`` or ``random heads``.
        edit: what it was written under.
        text: what is written so far.
        count: how often it says the concept's words; None where there is no concept.
        log_odds: that the concept is said next, along the unedited text, in nats; median and quartiles over draws for random
            heads. Empty where it is not known.
        remark: why there is no text, or what else is to be known.
    """

    title: str
    edit: HeadEdit | None = None
    text: str = ""
    count: int | None = None
    log_odds: tuple[float, ...] = ()
    remark: str = ""


def write(
    playground: Playground,
    sample: Sample,
    *,
    edit: HeadEdit | None,
    found: Found | None,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> Iterator[tuple[Column, ...]]:
    """Write on from a prompt three times; a yield for whatever there is to be shown.

    The model is held while it writes one text, and is unedited whenever it is not held.

    Args:
        playground: the model.
        sample: what it is asked.
        edit: heads to scale; only the unedited text without one.
        found: the concept whose words are counted.
        max_new_tokens: tokens to write at most.
        seed: seed of the draw of random heads.

    Raises:
        HeadPursuitError: an empty prompt, an image that cannot be read, an edit of image tokens without an image.
    """
    if edit is not None and "image" in edit.token_groups and sample.image is None:
        raise HeadPursuitError("the edit holds at an image's tokens, and there is none: give an image, or choose other tokens")
    columns, controls = [Column("unedited")], list[HeadEdit]()
    if edit is not None:
        try:
            controls = control_edits(edit, playground.model, draws=_DRAWS, seed=seed)
            control = Column("random heads", controls[0])
        except HeadPursuitError as error:
            control = Column("random heads", remark=str(error))
        columns += [Column("edited", edit), control]
    yield tuple(columns)
    for index, column in enumerate(columns):
        if column.remark:
            continue
        for text in _streamed(playground, sample, column.edit, max_new_tokens=max_new_tokens):
            columns[index] = replace(column, text=text)
            yield tuple(columns)
        if found is not None:
            count = count_words(columns[index].text, found.concept.words)
            edits: Sequence[HeadEdit | None] = controls if column.edit in controls[:1] else [column.edit]
            odds = _log_odds(playground, replace(sample, target=columns[0].text), edits, found)
            columns[index] = replace(columns[index], count=count, log_odds=odds)
            yield tuple(columns)


def _streamed(playground: Playground, sample: Sample, edit: HeadEdit | None, *, max_new_tokens: int) -> Iterator[str]:
    """The text so far, whenever there is more of it, and at last as the model gives it."""
    model = playground.model
    streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True, skip_special_tokens=True)

    def run() -> str:
        try:
            with playground.lock, nullcontext() if edit is None else edit.applied(model):
                return model.generate(sample, max_new_tokens=max_new_tokens, streamer=streamer)
        finally:
            streamer.end()

    # Leaving waits for the text, and so for the edit's end, when nobody listens any more, too.
    with ThreadPoolExecutor(1) as pool:
        text, writing = "", pool.submit(run)
        for piece in streamer:
            text += piece
            yield text
        yield writing.result()


def _log_odds(playground: Playground, sample: Sample, edits: Sequence[HeadEdit | None], found: Found) -> tuple[float, ...]:
    """The value of one edit, or median and quartiles of several; nothing where none would tell anything."""
    groups = {where for edit in edits if edit is not None for where in edit.token_groups}
    if not (sample.target or "").strip() or not groups <= _ALONG:
        return ()
    along, values = with_targets([sample], [sample.target or ""]), []
    for edit in edits:
        with playground.lock, nullcontext() if edit is None else edit.applied(playground.model):
            values.append(float(concept_log_odds(playground.model, along, tokens=found.tokens)[0]))
    return tuple(values) if len(values) == 1 else tuple(np.quantile(values, [0.5, 0.25, 0.75]).tolist())
