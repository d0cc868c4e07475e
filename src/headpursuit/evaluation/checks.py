"""What a recipe asks of a model, checked against its configuration and tokenizer, before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headpursuit.concepts import resolve
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import parse_heads
from headpursuit.model.load import load_outline, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headpursuit.evaluation.material import Aim
    from headpursuit.evaluation.recipe import Recipe


def check_model(
    recipe: Recipe,
    aims: Sequence[Aim],
    model: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Check heads and words of a recipe against a checkpoint's configuration and tokenizer.

    Raises:
        HeadPursuitError: k is larger than the model allows, a head that it does not have, a concept without tokens; names the
            key.
    """
    anatomy = load_outline(model, revision=revision, trust_remote_code=trust_remote_code)
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
    tokenizer = load_tokenizer(model, revision=revision)
    for number, aim in enumerate(aims):
        try:
            resolve(aim.concept, tokenizer, multi_token=aim.spec.multi_token)
        except HeadPursuitError as error:
            raise HeadPursuitError(f"concepts[{number}].words: {error}") from error
