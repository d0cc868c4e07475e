"""A token as text that a reader can tell from other tokens, and which ids are tokens at all."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_LOST = "\ufffd"
# How SentencePiece and byte-level BPE write a blank in a token's own spelling.
BLANK_MARKS = ("▁", "Ġ")
# Rows that are kept for tokens to come: <unused7>, <|reserved_special_token_7|>, <extra_id_7>, [unused7].
_RESERVED = re.compile(r"\W+(\w*_)?(unused|reserved|extra_id|placeholder|dummy)\w*\W+", re.IGNORECASE)
_FIRST_ESCAPE = 0xDC00  # where Python's surrogateescape puts bytes that are no text


def token_text(tokenizer: Any, token_id: int) -> str:
    """A token as text, its leading space kept.

    Bytes that are a part of a letter read ``<0xE2>``, ids that are no token's ``<id>``.
    """
    try:
        token = tokenizer.convert_ids_to_tokens(token_id)
    except (IndexError, KeyError, OverflowError):
        token = None
    if token is None or (token == getattr(tokenizer, "unk_token", None) and token_id != tokenizer.unk_token_id):
        return f"<{token_id}>"
    if "▁" in token:
        # Decoding one SentencePiece token drops its leading space, which is what tells " May" from "May".
        return str(token).replace("▁", " ")
    text = str(tokenizer.convert_tokens_to_string([token]))
    if _LOST not in text:
        return text
    added = getattr(tokenizer, "added_tokens_decoder", {})  # which are written as they read, and not in bytes
    return str(added[token_id]) if token_id in added else _with_bytes(token)


def known_ids(tokenizer: Any, n_rows: int) -> list[int]:
    """Ids below ``n_rows`` that are a token's, in order; a vocabulary may have holes, and rows beyond it."""
    return sorted({token for token in tokenizer.get_vocab().values() if 0 <= token < n_rows})


def is_reserved(spelling: str) -> bool:
    """Whether a token's own spelling says that it is kept for a token to come (``<unused7>``), which no text was trained on."""
    return _RESERVED.fullmatch(spelling) is not None


def written_texts(spellings: Iterable[str]) -> list[str]:
    """Tokens of one vocabulary as text by their own spellings: faster than `token_text` for a whole vocabulary.

    A leading blank is kept, what continues a WordPiece word keeps its ``##``, and bytes that are no text read ``\ufffd``.
    """
    given = list(spellings)
    first = Counter(one[:1] for one in given)
    blank = max(BLANK_MARKS, key=lambda mark: first[mark])
    if blank == "Ġ" and first[blank]:
        return [_from_bytes(one) if all(letter in _bytes() for letter in one) else one for one in given]
    return [one.replace(blank, " ") for one in given]


@cache
def _bytes() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # late: concepts are checked before it is loaded

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def _from_bytes(spelling: str) -> str:
    return bytes(_bytes()[letter] for letter in spelling).decode("utf-8", errors="replace")


def _with_bytes(token: str) -> str:
    if _BYTE_PIECE.fullmatch(token) or not all(letter in _bytes() for letter in token):
        return token
    text = bytes(_bytes()[letter] for letter in token).decode("utf-8", errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"<0x{ord(found[0]) - _FIRST_ESCAPE:02X}>", text)
