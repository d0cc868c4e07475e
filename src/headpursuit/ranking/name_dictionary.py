"""Which directions may name a head: the whole vocabulary, a part of it, a concept's words, or a dictionary of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.concepts import ConceptLike, as_concept
from headpursuit.concepts.resolve import resolve
from headpursuit.concepts.vocabulary import usable_ids, vocabulary_dictionary
from headpursuit.concepts.vocabulary_parts import part_of_vocabulary, parts_of
from headpursuit.errors import HeadPursuitError
from headpursuit.model.samples import Sample, as_samples
from headpursuit.model.token_text import known_ids
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.ranking.null import token_counts


@dataclass(frozen=True)
class NameDictionary:
    """The atoms that heads are named by.

    Attributes:
        atoms: the atoms, with their labels.
        name: what was asked for (``words+latin``), the name of a concept, or ``own``.
        unused_rows: rows of the unembedding that are no token's.
        reserved_rows: rows that are kept for tokens to come.
    """

    atoms: Dictionary
    name: str
    unused_rows: int = 0
    reserved_rows: int = 0


def name_dictionary(
    acts: HeadActivations | HeadMoments,
    choice: ConceptLike | Dictionary,
    *,
    samples: Sequence[Sample] = (),
    fold_norm: bool = False,
) -> NameDictionary:
    """The dictionary that was chosen.

    Args:
        acts: a capture, of a model whose unembedding and tokenizer it knows.
        choice: parts of the vocabulary joined by ``+`` (see :func:`headpursuit.concepts.vocabulary_parts.part_of_vocabulary`),
            ``seen:FILE`` among them for the tokens of a file; a concept; or a dictionary.
        samples: the captured samples, for ``seen``.
        fold_norm: multiply the unembedding by the gain of the norm before it.

    Raises:
        HeadPursuitError: there are no such words or tokens, or samples are missing.
    """
    if isinstance(choice, Dictionary):
        if fold_norm:
            raise HeadPursuitError("fold_norm is about the unembedding: leave it out where a dictionary is given")
        return NameDictionary(choice, "own")
    unembedding = acts.weights.unembedding()
    gain = acts.weights.final_norm_gain() if fold_norm else None
    usable = list(usable_ids(acts.tokenizer, len(unembedding)))
    left_out = len(unembedding) - len(usable)
    unused = len(unembedding) - len(known_ids(acts.tokenizer, len(unembedding)))
    parts = parts_of(choice) if isinstance(choice, str) else None
    if parts is None:
        resolved = resolve(as_concept(choice), acts.tokenizer, vocabulary_size=len(unembedding))
        name, ids = resolved.name, list(resolved.token_ids)
    else:
        name, ids = str(choice), usable
    if parts and parts != ["all"]:
        seen = _seen(acts, parts, samples, len(unembedding)) if any(part.startswith("seen") for part in parts) else None
        names = [part.partition(":")[0] for part in parts]
        ids = part_of_vocabulary(names, acts.tokenizer, known=usable, seen=seen)
    return NameDictionary(
        vocabulary_dictionary(unembedding, acts.tokenizer, gain=gain, ids=ids), name, unused, left_out - unused
    )


def _seen(acts: HeadActivations | HeadMoments, parts: list[str], samples: Sequence[Sample], n_rows: int) -> set[int]:
    """Ids of the tokens of a file, or of the captured samples."""
    file = next((part.partition(":")[2] for part in parts if ":" in part), "")
    given = as_samples(file) if file else samples
    if not given:
        raise HeadPursuitError(
            "a capture keeps no texts: give the samples it was made of (samples=…, --samples FILE), or seen:FILE for any others"
        )
    texts = [text for sample in given for text in (sample.text, sample.target or "")]
    return set(token_counts(acts.tokenizer, texts, vocabulary_size=n_rows).nonzero()[0].tolist())
