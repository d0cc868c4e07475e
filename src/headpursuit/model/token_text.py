"""A token as text that a reader can tell from other tokens, and which ids are tokens at all."""

import re
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_LOST = "\ufffd"
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


def _with_bytes(token: str) -> str:
    if _BYTE_PIECE.fullmatch(token) or not all(letter in _BYTES for letter in token):
        return token
    text = bytes(_BYTES[letter] for letter in token).decode("utf-8", errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"<0x{ord(found[0]) - _FIRST_ESCAPE:02X}>", text)
