"""From words to rows of the dictionary: which tokens of one tokenizer a concept's words are."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from headpursuit.concepts.concept import Concept
from headpursuit.demo import demo_path
from headpursuit.errors import HeadPursuitError, check_choice
from headpursuit.model.token_text import BLANK_MARKS

if TYPE_CHECKING:
    from pandas import DataFrame
else:  # it takes half a second to import, and words need none
    DataFrame = Any

MultiToken = Literal["skip", "first", "mean"]
Status = Literal["kept", "merged", "dropped"]

# Text in front of a word that the tokenizer neither merges with it nor takes for a blank before it.
_LINE_BREAK = "\n"


@dataclass(frozen=True)
class ResolutionEntry:
    """One written form of one word, and what became of it.

    Attributes:
        word: the word of the concept.
        form: how it was written for the tokenizer, with its leading space if it had one.
        status: ``kept`` (it added an atom), ``merged`` (its token was there already) or ``dropped``.
        tokens: its tokens, readable.
        token_ids: their ids.
        reason: why it was dropped, or what it was merged with; empty if kept.
    """

    word: str
    form: str
    status: Status
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class ResolutionReport:
    """The account of a resolution, in the order of the words; ``print`` it.

    Forms that are merely not a token (a plural, a capital) are no entry of their own; a word none of whose forms
    could be used is one ``dropped`` entry.
    """

    concept: str
    tokenizer: str
    multi_token: MultiToken
    entries: tuple[ResolutionEntry, ...]

    def __str__(self) -> str:
        kept, merged, dropped = (self.of(status) for status in get_args(Status))
        words = {entry.word: None for entry in self.entries}
        used = {entry.word: None for entry in (*kept, *merged)}
        atoms = f"{len(kept)} atom" + "s" * (len(kept) != 1)
        lines = [f"{self.concept} for {self.tokenizer}: {atoms} from {len(used)} of {len(words)} words"]
        lines += _paragraph("kept", ["+".join(map(repr, entry.tokens)) for entry in kept], at_most=60)
        lines += _paragraph("merged", [f"{entry.form!r} {entry.reason}" for entry in merged], at_most=12)
        lines += _paragraph("dropped", [f"{entry.word!r} ({entry.reason})" for entry in dropped], at_most=30)
        return "\n".join(lines)

    def of(self, status: Status) -> tuple[ResolutionEntry, ...]:
        """Return the entries of one status."""
        return tuple(entry for entry in self.entries if entry.status == status)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "concept": self.concept,
            "tokenizer": self.tokenizer,
            "multi_token": self.multi_token,
            "entries": [
                asdict(entry) | {"tokens": list(entry.tokens), "token_ids": list(entry.token_ids)} for entry in self.entries
            ],
        }

    def to_frame(self) -> DataFrame:
        """Return one row a form, with the columns of ``ResolutionEntry``."""
        import pandas as pd

        columns = list(ResolutionEntry.__dataclass_fields__)
        return pd.DataFrame([asdict(entry) for entry in self.entries], columns=columns)


@dataclass(frozen=True)
class ResolvedConcept:
    """A concept as atoms of one tokenizer's dictionary.

    Attributes:
        name: the concept's name.
        rows: the token ids of every atom; one id for a single-token row, more for the mean of a word's tokens.
        labels: the atoms, readable (" red"; tokens of a mean atom joined).
        words: the word behind every atom.
        tokenizer: the tokenizer's name.
        multi_token: the policy for words that are no single token.
        report: what was kept, merged and dropped.
    """

    name: str
    rows: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    words: tuple[str, ...]
    tokenizer: str
    multi_token: MultiToken
    report: ResolutionReport

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All distinct token ids of the atoms, in order: what a logit lens averages over."""
        return tuple(dict.fromkeys(token for row in self.rows for token in row))

    @property
    def kept_words(self) -> tuple[str, ...]:
        """The distinct words that have at least one atom, in order."""
        return tuple(dict.fromkeys(self.words))

    @property
    def dropped_words(self) -> tuple[str, ...]:
        """The words that no atom stands for, in order."""
        return tuple(entry.word for entry in self.report.of("dropped"))


def resolve(
    concept: Concept,
    tokenizer: Any,
    *,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    vocabulary_size: int | None = None,
) -> ResolvedConcept:
    """Find the tokens that a concept's words are for one tokenizer.

    Every word is tried with and without a leading space and, with ``variants``, in lower case, Capitalised, in UPPER
    case (after a space only) and in the plural of the first two. A word written with a capital keeps it, so that "May" and
    "Turkey" do not bring "may" and "turkey"; its lower case is tried only where the tokenizer has no other form of it. A
    form counts if it is exactly one ordinary token that reads like the form. Pieces that are only a blank do not count.

    Args:
        concept: the word list.
        tokenizer: a Hugging Face tokenizer, or a processor that has one.
        multi_token: what to do with a word none of whose forms is one token: ``skip`` it, take the ``first`` token of
            it as written after a space, or the ``mean`` of these tokens. Pieces of words can pull in heads that spell
            (Head Pursuit, section 4.3, restricts Gemma 3 to single tokens for this reason).
        variants: whether to try other cases and plurals.
        vocabulary_size: rows of the model's unembedding; tokens beyond it are not used.

    Returns:
        The atoms with the account of every word.

    Raises:
        HeadPursuitError: nothing resolves, or the policy is unknown.

    Examples:
        >>> resolve(hp.concept("red,green"), model.tokenizer).labels
        (' red', 'red', ' green')
    """
    check_choice(get_args(MultiToken), multi_token=multi_token)
    reader = _Reader(tokenizer, vocabulary_size)
    tiers = {word: _forms(word, variants=variants, plurals=concept.plurals) for word in concept.words}
    reader.read(form for word_tiers in tiers.values() for tier in word_tiers for form in tier)

    entries: list[ResolutionEntry] = []
    atoms: dict[tuple[int, ...], str] = {}
    owners: list[str] = []
    for word, word_tiers in tiers.items():
        found = next((hits for tier in word_tiers if (hits := _single_tokens(reader, word, tier))), None)
        if found is None:
            found, reason = _by_policy(reader, word, multi_token)
            if reason:
                row = reader.pieces(" " + word)
                entries.append(ResolutionEntry(word, " " + word, "dropped", reader.labels(row), row, reason))
        for form, rows in found:
            new = [row for row in rows if row not in atoms]
            for row in new:
                atoms[row] = form
                owners.append(word)
                entries.append(ResolutionEntry(word, form, "kept", reader.labels(row), row))
            if not new:
                # The row, and not the form, decides: "red" and " red" are one token where a dummy blank is prepended.
                row = rows[0]
                entries.append(ResolutionEntry(word, form, "merged", reader.labels(row), row, f"as {atoms[row]!r}"))
    if not atoms:
        raise HeadPursuitError(_nothing_resolved(concept, reader.name, multi_token, entries))
    return ResolvedConcept(
        name=concept.name,
        rows=tuple(atoms),
        labels=tuple(reader.label(row) for row in atoms),
        words=tuple(owners),
        tokenizer=reader.name,
        multi_token=multi_token,
        report=ResolutionReport(concept.name, reader.name, multi_token, tuple(entries)),
    )


def _forms(word: str, *, variants: bool, plurals: bool) -> list[list[str]]:
    """Return the spellings of a word to try, in tiers: a later tier counts only where the ones before have no token."""
    if not variants:
        return [[word]]
    proper = word != word.lower()
    stems = [word]
    if plurals and word.isalpha():
        stems.append(_plural(word))
    cased = [form for stem in stems for form in (stem, stem[:1].upper() + stem[1:])]
    tiers = [list(dict.fromkeys([*cased, word.upper()]))]
    if proper:
        tiers.append([word.lower()])
    return tiers


@cache
def _plural(word: str) -> str:
    return str(_inflect_engine().plural_noun(word))


@cache
def _inflect_engine() -> Any:
    import inflect  # a sixth of a second, for those alone who need plurals

    return inflect.engine()


def _single_tokens(reader: _Reader, word: str, forms: Sequence[str]) -> list[tuple[str, list[tuple[int, ...]]]]:
    found = []
    for form in forms:
        # Capitals without a blank before them are more often a piece of an acronym ("ASSIS·TAN·T") than the word.
        shouted = form.isupper() and len(form) > 1 and form != word
        for written, texts in ((" " + form, [" " + form]), (form, [form, _LINE_BREAK + form])):
            rows = [reader.pieces(text) for text in texts]
            rows = [row for row in rows if len(row) == 1 and not reader.fault(row, form)]
            rows = list(dict.fromkeys(row for row in rows if not shouted or reader.label(row).startswith(" ")))
            if rows:
                found.append((written, rows))
    return found


def _by_policy(reader: _Reader, word: str, policy: MultiToken) -> tuple[list[tuple[str, list[tuple[int, ...]]]], str]:
    row = reader.pieces(" " + word)
    if fault := reader.fault(row, word):
        return [], fault
    if policy == "skip":
        return [], f"{len(row)} tokens: {' | '.join(label.strip() for label in reader.labels(row))}"
    if policy == "mean":
        return [(" " + word, [row])], ""
    if not _letters(word).startswith(_letters(reader.label(row[:1]))):
        return [], "its first token is a part of a letter"
    return [(" " + word, [row[:1]])], ""


class _Reader:
    """A tokenizer seen as a function from text to pieces, read once for all texts."""

    def __init__(self, tokenizer: Any, vocabulary_size: int | None) -> None:
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._size = vocabulary_size
        self._special = frozenset(self._tokenizer.all_special_ids)
        self._pieces: dict[str, tuple[int, ...]] = {}
        self._blank: dict[int, bool] = {}
        name = str(getattr(self._tokenizer, "name_or_path", "") or type(self._tokenizer).__name__)
        self.name = "demo" if name == str(demo_path()) else name
        self._before = self._encode([_LINE_BREAK])[0]

    def read(self, forms: Iterable[str]) -> None:
        """Tokenize forms with a leading space, without one, and at the start of a line."""
        texts = list(dict.fromkeys(text for form in forms for text in (" " + form, form, _LINE_BREAK + form)))
        for text, ids in zip(texts, self._encode(texts), strict=True):
            if text.startswith(_LINE_BREAK):
                # Not a word of its own if the tokenizer merged it with the line break.
                ids = ids[len(self._before) :] if ids[: len(self._before)] == self._before else ()
            # A blank that is a piece of its own (before digits in most tokenizers) says nothing about the word.
            self._pieces[text] = tuple(token for token in ids if not self._is_blank(token))

    def pieces(self, text: str) -> tuple[int, ...]:
        return self._pieces[text]

    def fault(self, row: tuple[int, ...], form: str) -> str:
        """Say why these tokens cannot stand for the form; empty if they can."""
        if not row or self._special.intersection(row):
            return "unknown to the tokenizer"
        # Tokenizers without an unknown token drop what they do not know, and then the rest reads differently.
        if _letters(self._text(row)) != _letters(form):
            return f"unknown to the tokenizer, which reads {self._text(row).strip()!r}"
        if self._size is not None and max(row) >= self._size:
            return f"token {max(row)} is beyond the {self._size} rows of the model's vocabulary"
        return ""

    def label(self, row: tuple[int, ...]) -> str:
        """Return the tokens as one readable text, with the leading space that SentencePiece's decoder eats."""
        spelling = str(self._tokenizer.convert_ids_to_tokens(row[0]))
        return (" " if spelling.startswith(BLANK_MARKS) else "") + self._text(row).strip()

    def labels(self, row: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self.label((token,)) for token in row)

    def _is_blank(self, token: int) -> bool:
        if token not in self._blank:
            self._blank[token] = not self._text((token,)).strip()
        return self._blank[token]

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [tuple(ids) for ids in encoded]

    def _text(self, row: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(list(row), clean_up_tokenization_spaces=False))


def _letters(text: str) -> str:
    # Tokenizers may fold case and accents; what they must not do is leave letters out.
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not c.isspace() and not unicodedata.combining(c))


def _paragraph(title: str, items: Sequence[str], *, at_most: int) -> list[str]:
    if not items:
        return []
    more = f", … and {len(items) - at_most} more" if len(items) > at_most else ""
    # Lines break between items and not inside one, whose leading space would be lost to the eye.
    listed = ", ".join(item.replace(" ", "\u00a0") for item in items[:at_most])
    lines = textwrap.wrap(
        f"{title} {len(items)}: {listed}{more}",
        width=110,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]


def _nothing_resolved(concept: Concept, tokenizer: str, policy: MultiToken, entries: list[ResolutionEntry]) -> str:
    tried = ", ".join(f"{textwrap.shorten(entry.word, 30, placeholder='…')!r}" for entry in entries[:3]) + (
        ", …" if len(entries) > 3 else ""
    )
    message = f"concept {concept.name!r} has no token in the vocabulary of {tokenizer} (tried {tried}"
    if entries and entries[0].reason:
        message += f"; the first: {textwrap.shorten(entries[0].reason, 80, placeholder=' …')}"
    if policy == "skip" and any(" tokens: " in entry.reason for entry in entries):
        way_out = 'take first tokens (multi_token="first", --multi-token first) or "mean", or give words that are one token'
    else:
        way_out = "give words in a script and language that the tokenizer was trained on"
    return f"{message}): {way_out}"
