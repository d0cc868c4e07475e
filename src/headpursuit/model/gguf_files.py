"""GGUF files, llama.cpp's form of a checkpoint: what their headers say, and what lies where in them.

A file is a header (magic, version, counts, keys with values, one entry a tensor) and the tensors' bytes, each at a multiple of
the alignment; a large model is several files, ``NAME-00001-of-00003.gguf``. Source: ggml's ``docs/gguf.md``. Headers are read
here rather than by the package ``gguf``, which takes a second a hundred thousand tokens and trusts what it reads.
"""

import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.model.checkpoint_files import StoredTensor, is_pointer
from headpursuit.optional import optional_import

_MAGIC = b"GGUF"
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9
_MOST_AXES = 4
# Values of a row group: large enough that NumPy's calls do not count, small enough to stay in a cache.
_GROUP = 1 << 16
_AGAIN = "download or convert it again"


@dataclass(frozen=True)
class GgufTensor(StoredTensor):
    """One tensor of a GGUF file; ``dtype`` is ggml's name of its type (``Q4_K``), what is read is float32.

    Attributes:
        entry: where its type stands in the file; its offset follows.
        turned: whether the file has it the other way round than the model, as with GPT-2's ``Conv1D``.
    """

    entry: int = 0
    turned: bool = False

    def raw(self) -> np.ndarray:
        """Its bytes, one row for all that share every index but the last, read when they are looked at."""
        width = self.shape[0] if self.turned else self.shape[-1]
        block, size = block_of(self.dtype)
        packed = np.memmap(self.file, np.uint8, "r", offset=self.begin, shape=(self.end - self.begin,))
        return packed.reshape(-1, width // block * size)

    def read(self) -> Tensor:
        """See :meth:`StoredTensor.read`; dequantised to float32."""
        stored = tuple(reversed(self.shape)) if self.turned else self.shape
        values = torch.from_numpy(dequantised(self.raw(), self.dtype)).reshape(stored)
        return values.T if self.turned else values

    def read_rows(self, rows: Sequence[int]) -> Tensor:
        """See :meth:`StoredTensor.read_rows`; dequantised to float32."""
        if self.turned:
            return self.read()[list(rows)]
        return torch.from_numpy(dequantised(self.raw()[list(rows)], self.dtype))


@dataclass(frozen=True)
class GgufFile:
    """The header of one file.

    Attributes:
        path: the file.
        keys: values by name; of a list its length.
        tensors: in the order in which they lie in the file.
        alignment: of the tensors' bytes.
        entries: where the tensors' entries begin.
        begin: where the tensors' bytes begin.
    """

    path: Path
    keys: dict[str, Any] = field(repr=False)
    tensors: tuple[GgufTensor, ...] = field(repr=False)
    alignment: int
    entries: int
    begin: int


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def part_names(path: Path) -> list[Path]:
    """The files of a model that is split in parts, by the name of one of them; the file itself where its name is no part's."""
    found = _PART.fullmatch(path.name)
    if found is None:
        return [path]
    return [path.with_name(f"{found[1]}-{number:05d}-of-{found[3]}{found[4]}") for number in range(1, int(found[3]) + 1)]


def gguf_parts(path: Path) -> tuple[GgufFile, ...]:
    """The headers of a model's files: one, or all parts of one that is split, whichever of them is named.

    Raises:
        HeadPursuitError: a file is missing, is no GGUF file, or is not whole.
    """
    given = gguf_header(path)
    count = given.keys.get("split.count", 1)
    if not isinstance(count, int):
        raise HeadPursuitError(f"{path}: split.count is {count!r}, no number of parts: get the file again")
    if count in (0, 1):
        return (given,)
    names = part_names(path)
    if len(names) != count:
        raise HeadPursuitError(
            f"{path} is a part of {count}, but is not called so: name its parts NAME-00001-of-{count:05d}.gguf and so on"
        )
    missing = [one.name for one in names if not one.is_file()]
    if missing:
        raise HeadPursuitError(
            f"{path} is one of {count} parts, and {', '.join(missing[:3])} is missing: put it beside the others"
        )
    parts = tuple(map(gguf_header, names))
    if [part.keys.get("split.no") for part in parts] != list(range(len(parts))):
        raise HeadPursuitError(f"{names[0]} and the parts beside it do not belong together: download them again")
    return parts


def gguf_tensors(path: Path) -> list[StoredTensor]:
    """Every tensor of a model's files, see :func:`gguf_parts`."""
    return [tensor for part in gguf_parts(path) for tensor in part.tensors]


def find_attention_output(name: str, shape: Sequence[int], stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The output projection of the layer that a weight's name numbers, or None where there is none of that shape.

    Args:
        name: the weight's name in the model.
        shape: its shape.
        stored: where to look.
    """
    numbers = [part for part in name.split(".") if part.isdigit()]
    keys = {f"blk.{numbers[0]}.attn_output.weight"} if len(numbers) == 1 else set()
    return next((one for one in stored if one.key in keys and one.shape == tuple(shape)), None)


def require_model(path: Path) -> tuple[GgufFile, ...]:
    """Check that a GGUF file holds a language model with its tokenizer, whole.

    Returns:
        The headers of its parts.

    Raises:
        HeadPursuitError: it holds something else, or less.
    """
    parts = gguf_parts(path)
    keys, tensors = parts[0].keys, {one.key: one for part in parts for one in part.tensors}
    architecture, kind = keys.get("general.architecture"), keys.get("general.type", "model")
    if kind != "model" or not isinstance(architecture, str) or architecture == "clip":
        what = kind if kind != "model" else architecture or "nothing that it names"
        raise HeadPursuitError(
            f"{path} is a GGUF file of {str(what)!r:.40} and not of a language model: give the model's own file"
        )
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise HeadPursuitError(f"{path} holds no model's weights (no token_embd.weight): give the model's own file")
    tokens = keys.get("tokenizer.ggml.tokens")
    if not tokens or "tokenizer.ggml.model" not in keys:
        raise HeadPursuitError(
            f"{path} holds no tokenizer (tokenizer.ggml.tokens): convert the model again, with its tokenizer"
        )
    blocks = {int(found[1]) for key in tensors if (found := re.match(r"(?:dec\.)?blk\.(\d{1,6})\.", key))}
    said = (keys.get(f"{architecture}.block_count"), keys.get(f"{architecture}.embedding_length"))
    if said != (len(blocks), embedding.shape[-1]):
        raise HeadPursuitError(
            f"{path} says that it has {said[0]} blocks of width {said[1]}, its tensors are of {len(blocks)} and of width "
            f"{embedding.shape[-1]}: {_AGAIN}"
        )
    return parts


def gguf_header(path: Path) -> GgufFile:
    """The header of one file, with every tensor's place checked against the file's length.

    Raises:
        HeadPursuitError: it cannot be read, is no GGUF file, or is cut off.
        MissingExtraError: the package ``gguf``, which knows the types of tensors, is not installed.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise HeadPursuitError(f"cannot read {path}: {error.strerror or error}") from error
    return _header(path.absolute(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _header(path: Path, size: int, written: int) -> GgufFile:
    if is_pointer(path):
        raise HeadPursuitError(f"{path} is a pointer of git-lfs and not the file itself: run `git lfs pull` there")
    if not is_gguf(path):
        raise HeadPursuitError(f"{path} is no GGUF file, it does not begin with {_MAGIC.decode()}: give a model's .gguf file")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parsed(path, content, size)
    except OSError as error:
        raise HeadPursuitError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise HeadPursuitError(f"{path} is no sound GGUF file ({error}): {_AGAIN}") from error


class _Reader:
    """Values one after the other; what would lie behind the end is an error of :mod:`struct`."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, len(_MAGIC)

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        return self.skipped_text().decode("utf-8")

    def skipped_text(self) -> bytes:
        length = self.number("<Q")
        if length > len(self.content) - self.at:
            raise ValueError(f"a text at byte {self.at} should have {length} bytes, which is beyond its end")
        self.at += length
        return self.content[self.at - length : self.at]

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text()
        inner, count = (self.number("<I"), self.number("<Q")) if kind == _LIST else (kind, 0)
        if inner in _NUMBERS:
            length = count * struct.calcsize(_NUMBERS[inner])
            if length > len(self.content) - self.at:
                raise ValueError(f"a list at byte {self.at} should have {count} values, which is beyond its end")
            self.at += length
        elif inner == _TEXT:
            for _ in range(count):
                self.skipped_text()
        else:
            raise ValueError(f"a value at byte {self.at} of type {inner}, which GGUF does not have")
        return count


def _parsed(path: Path, content: mmap.mmap, size: int) -> GgufFile:
    reader = _Reader(content)
    version = reader.number("<I")
    if version not in (2, 3):
        raise ValueError(f"version {version}, read are 2 and 3, little-endian")
    n_tensors, n_keys = reader.number("<Q"), reader.number("<Q")
    keys: dict[str, Any] = {}
    for _ in range(n_keys):
        name = reader.text()
        if name in keys:
            raise ValueError(f"the key {name!r:.60} twice")
        keys[name] = reader.value(reader.number("<I"))
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise ValueError(f"an alignment of {alignment!r:.20}")
    entries = reader.at
    found: list[tuple[str, tuple[int, ...], str, int, int, int]] = []
    for _ in range(n_tensors):
        name, n_axes = reader.text(), reader.number("<I")
        if n_axes > _MOST_AXES:
            raise ValueError(f"{name:.60} with {n_axes} axes")
        shape = tuple(reversed([reader.number("<Q") for _ in range(n_axes)]))
        entry = reader.at
        kind, offset = _type_name(reader.number("<I")), reader.number("<Q")
        block, width = block_of(kind)
        if not shape or shape[-1] % block or offset % alignment:
            raise ValueError(f"{name:.60} of shape {shape} at {offset}, in blocks of {block}")
        found.append((name, shape, kind, entry, offset, int(np.prod(shape, dtype=object)) // block * width))
    begin = -(-reader.at // alignment) * alignment
    tensors = []
    turned = keys.get("general.architecture") == "gpt2"
    for name, shape, kind, entry, offset, length in found:
        end = begin + offset + length
        if end > size:
            raise ValueError(f"{name:.60} should end at byte {end}, the file has {size}: it is cut off")
        turns = turned and name.endswith("attn_output.weight")
        shape = tuple(reversed(shape)) if turns else shape
        tensors.append(GgufTensor(path, name, kind, shape, begin + offset, end, entry=entry, turned=turns))
    tensors.sort(key=lambda one: one.begin)
    if len({one.key for one in tensors}) < len(tensors):
        raise ValueError("two tensors of one name")
    for one, following in pairwise(tensors):
        if one.end > following.begin:
            raise ValueError(f"{one.key:.60} and {following.key:.60} at one place")
    return GgufFile(path, keys, tuple(tensors), alignment, entries, begin)


def ggml() -> Any:
    """The package ``gguf``, which knows ggml's types.

    Raises:
        MissingExtraError: it is not installed.
    """
    return optional_import("gguf", extra="gguf", purpose="a GGUF file")


def block_of(kind: str) -> tuple[int, int]:
    """Values and bytes of one block of a type."""
    block, size = ggml().GGML_QUANT_SIZES[ggml().GGMLQuantizationType[kind]]
    return int(block), int(size)


def _type_name(number: int) -> str:
    try:
        return str(ggml().GGMLQuantizationType(number).name)
    except ValueError:
        raise ValueError(f"a tensor of type {number}, which the installed gguf does not know") from None


def dequantised(raw: np.ndarray, kind: str) -> np.ndarray:
    """The values of whole rows of blocks, float32, shape ``(rows, width)``.

    Raises:
        HeadPursuitError: no way to read the type is known.
    """
    block, size = block_of(kind)
    rows, width = raw.shape[0], raw.shape[1] // size * block
    # The package goes through 16 rows at a time, however short they are.
    joined = next(many for many in (64, 32, 16, 8, 4, 2, 1) if rows % many == 0 and (many == 1 or many * width <= _GROUP))
    try:
        values = ggml().quants.dequantize(raw.reshape(rows // joined, -1), ggml().GGMLQuantizationType[kind])
    except NotImplementedError as error:
        raise HeadPursuitError(
            f"the type {kind} of GGUF files cannot be read here: quantise the model in another type"
        ) from error
    return np.require(values, np.float32, ["C", "W"]).reshape(rows, width)
