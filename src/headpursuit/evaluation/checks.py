"""What a recipe asks of a model, checked against its configuration and tokenizer before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headpursuit.concepts import resolve
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import parse_heads
from headpursuit.model.load import load_tokenizer, outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headpursuit.evaluation.prepare import Aim
    from headpursuit.evaluation.recipe import Recipe


def check_heads(recipe: Recipe, model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> None:
    """Check a recipe's numbers and names of heads against a checkpoint's configuration.

    Raises:
        HeadPursuitError: k is larger than the model allows, or a head that it does not have; names the key.
    """
    anatomy = outline(model, revision=revision, trust_remote_code=trust_remote_code).anatomy
    heads = len(anatomy.heads())
    for number, k in enumerate(() if recipe.edit is None else recipe.edit.k):
        if 2 * k > heads:
            raise HeadPursuitError(
                f"edit.k[{number}]: {k} of the {heads} heads of {model} leaves too few for random controls without them; "
                f"choose at most {heads // 2}"
            )
    if recipe.describe is not None:
        try:
            anatomy.require(parse_heads(recipe.describe.heads))
        except HeadPursuitError as error:
            raise HeadPursuitError(f"describe.heads: {error}") from error


def check_words(recipe: Recipe, aims: Sequence[Aim], model: str, *, revision: str | None = None) -> None:
    """Check that every concept has tokens in a checkpoint's vocabulary, those words too that are counted alone.

    Raises:
        HeadPursuitError: a concept without tokens; names the key.
    """
    if not aims:
        return
    tokenizer = load_tokenizer(model, revision=revision)
    for aim in aims:
        for words in (aim.concept, aim.counted):
            try:
                resolve(words, tokenizer, multi_token=aim.spec.multi_token)
            except HeadPursuitError as error:
                raise HeadPursuitError(f"concepts[{recipe.concepts.index(aim.spec)}].words: {error}") from error
