"""The demands of a recipe on a model, checked against its configuration and tokenizer before any weight is read."""

from collections.abc import Sequence
from typing import Any

from headpursuit.concepts import resolve
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.prepare import PreparedConcept
from headpursuit.evaluation.recipe import Recipe
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import parse_heads
from headpursuit.model.load import load_tokenizer, outline


def check_heads(
    recipe: Recipe, model: HeadModel | str, *, revision: str | None = None, trust_remote_code: bool = False
) -> None:
    """Check a recipe's numbers and names of heads against a model, or a checkpoint's configuration.

    Raises:
        HeadPursuitError: k is larger than the model allows in a recipe that is none of the paper's, or a head that the model
            does not have; names the key.
    """
    if isinstance(model, HeadModel):
        anatomy, name = model.anatomy, model.source.id
    else:
        anatomy = outline(model, revision=revision, trust_remote_code=trust_remote_code).anatomy
        name = model
    heads = len(anatomy.heads())
    # The paper's numbers of heads are cut to what a model has once its heads are ranked.
    for number, k in enumerate(() if recipe.edit is None or recipe.paper else recipe.edit.k):
        if 2 * k > heads:
            raise HeadPursuitError(
                f"edit.k[{number}]: {k} of the {heads} heads of {name} leaves too few for random controls without them; "
                f"choose at most {heads // 2}"
            )
    if recipe.describe is not None:
        try:
            anatomy.require(parse_heads(recipe.describe.heads))
        except HeadPursuitError as error:
            raise HeadPursuitError(f"describe.heads: {error}") from error


def check_words(
    recipe: Recipe,
    concepts: Sequence[PreparedConcept],
    model: HeadModel | str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Check that every concept has tokens in a model's vocabulary, those words too that are counted alone.

    Raises:
        HeadPursuitError: a concept without tokens; names the key.
    """
    if not concepts:
        return
    loading: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer = model.tokenizer if isinstance(model, HeadModel) else load_tokenizer(model, **loading)
    for concept in concepts:
        for words in (concept.concept, concept.counted):
            try:
                resolve(words, tokenizer, multi_token=concept.spec.multi_token)
            except HeadPursuitError as error:
                number = recipe.concepts.index(concept.spec)
                raise HeadPursuitError(f"concepts[{number}].words: {error}") from error
