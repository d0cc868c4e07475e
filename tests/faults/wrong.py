"""Sound content made wrong: JSON of any shape, bytes that were cut or flipped, words that no option expects."""

import copy
import json
from random import Random
from typing import Any

TEXTS = (
    *("", " ", "-", "--", "=", ",", "a,b", "é", "α😀", "\x1b[31m", "a\nb", "\x85", "%s", "{0}", "{}", "[]", "null", "\udcff"),
    *("nan", "inf", "-inf", "1e400", "-1", "0", "1", "1.5", "1e3", "0x10", "²", "٣", "9" * 30, "9" * 5000, "true"),
    *("..", "../x", "../../etc/passwd", "~", "~nobody/x", "C:\\x", "a/b", "a" * 300, "a" * 5000, "no.txt", "x.json", "x.gz"),
    *("L0.H0", "L0.H99", "L99.H0", "L-1.H0", "0.0", "L0.V0", "L0.X0", "red", "colours", "demo", "gpt2", "no/such-model"),
    *("http://", "http://[", "ftp://x", "hf://x/y", "s3://b/k", "file:///etc/passwd", "http://127.0.0.1:1/v1", "edit.k=[1]"),
    *("all", "mean", "last", "image", "answer", "text", "cuda", "cpu", "cuda:99", "float32", "bf16", "int8", "lora", "somp"),
)
NUMBERS = (0, -1, 1, 2, 7, 10**4, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"))


def value(random: Random, depth: int = 0) -> Any:
    """A plain value of any shape."""
    kind = random.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return random.random() < 0.5
    if kind == 2:
        return random.choice(NUMBERS)
    if kind in (3, 4):
        return random.choice(TEXTS)
    count = random.choice((0, 1, 2, 3))
    if kind == 5:
        return [value(random, depth + 1) for _ in range(count)]
    return {random.choice(TEXTS): value(random, depth + 1) for _ in range(count)}


def changed(random: Random, content: Any) -> Any:
    """A copy of plain values in which one or two spots are something else, twice there, or gone."""
    made = copy.deepcopy(content)
    for _ in range(random.choice((1, 1, 2))):
        spots = list(_spots(made))
        if not spots:
            return value(random)
        holder, key = random.choice(spots)
        what = random.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif what == 2 and isinstance(holder, dict):
            holder[random.choice(TEXTS)] = holder.pop(key)
        elif what == 3 and isinstance(holder[key], int | float):
            holder[key] = random.choice(NUMBERS)
        elif what == 4:
            other, name = random.choice(spots)
            holder[key] = copy.deepcopy(other[name]) if _holds(other, name) else value(random)
        else:
            holder[key] = value(random)
    return made


def json_text(random: Random, content: Any) -> bytes:
    """JSON of changed content, now and then made wrong as text."""
    if random.random() < 0.1:
        return random.choice(_NO_JSON)
    text = json.dumps(changed(random, content), ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    return flipped(random, text) if random.random() < 0.2 else text


def flipped(random: Random, content: bytes) -> bytes:
    """Bytes cut off, with a stretch gone or twice there, with bits flipped, or with others put in."""
    if not content:
        return random.randbytes(20)
    made, at = bytearray(content), random.randrange(len(content))
    length = random.choice((1, 1, 4, 60))
    what = random.randrange(6)
    if what == 0:
        del made[at:]
    elif what == 1:
        del made[at : at + length]
    elif what == 2:
        made[at:at] = made[at : at + length]
    elif what == 3:
        made[at:at] = random.choice(
            (b"\0", b"\n", b'"', b",", b"\xff", b"\xef\xbb\xbf", b"\r", b"\x0b", random.randbytes(length))
        )
    else:
        for _ in range(random.choice((1, 1, 8))):
            made[random.randrange(len(made))] ^= 1 << random.randrange(8)
    return bytes(made)


_NO_JSON = (
    *(b"", b" ", b"{", b"[", b"null", b"[]", b"{}", b'"a"', b"1", b"NaN", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"{}{}"),
    *(
        b"[" * 20000,
        b'{"a":' * 20000,
        b"9" * 5000,
        b"1e400",
        b'{"a": 1, "a": 2}',
        b"version https://git-lfs.github.com/spec/v1",
    ),
)


def _spots(content: Any) -> Any:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in pairs:
        yield content, key
        yield from _spots(inner)


def _holds(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)
