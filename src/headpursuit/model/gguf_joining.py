"""A GGUF file written anew from others: parts joined into one, or tensors stored in another type."""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from headpursuit.model.gguf_files import GgufFile, GgufTensor, ggml

_COUNT_AT = 8  # behind magic and version
_CHUNK = 1 << 24  # bytes


def join_parts(parts: Sequence[GgufFile], out: Path) -> None:
    """Write one file with the first part's keys and the tensors of all.

    Raises:
        OSError: it cannot be written.
    """
    first = parts[0]
    tensors = [tensor for part in parts for tensor in part.tensors]
    with out.open("wb") as file, first.path.open("rb") as keys:
        _copy(keys, file, 0, first.entries)
        offset = 0
        for part in parts:
            with part.path.open("rb") as source:
                for tensor in part.tensors:
                    _copy(source, file, *_name_and_shape(tensor))
                    file.write(_type_and_offset(tensor.dtype, offset))
                    offset += _padded(tensor.end - tensor.begin, first.alignment)
        _pad(file, first.alignment)
        for part in parts:
            with part.path.open("rb") as source:
                for tensor in part.tensors:
                    _copy(source, file, tensor.begin, tensor.end)
                    _pad(file, first.alignment)
        file.seek(_COUNT_AT)
        file.write(struct.pack("<Q", len(tensors)))


def write_replaced(source: GgufFile, out: Path, replaced: Mapping[str, tuple[str, bytes]]) -> None:
    """Write a copy of a file with some tensors in other bytes, of their type or of another; all else stays byte for byte.

    Args:
        source: the file.
        out: the copy.
        replaced: type and bytes of tensors by their names.

    Raises:
        OSError: it cannot be written.
    """
    with out.open("wb") as file, source.path.open("rb") as original:
        size = os.fstat(original.fileno()).st_size
        if not source.tensors:  # the first part of some splits holds keys alone
            _copy(original, file, 0, size)
            return
        _copy(original, file, 0, source.begin)
        ends = [*(tensor.begin for tensor in source.tensors[1:]), size]
        for tensor, end in zip(source.tensors, ends, strict=True):
            kind, content = replaced.get(tensor.key, (tensor.dtype, None))
            begin = file.tell()
            if content is None:
                _copy(original, file, tensor.begin, end)
            else:
                file.write(content)
                if kind == tensor.dtype:
                    _copy(original, file, tensor.end, end)  # the padding too
                else:
                    _pad(file, source.alignment)
            end_of_file = file.tell()
            file.seek(tensor.entry)
            file.write(_type_and_offset(kind, begin - source.begin))
            file.seek(end_of_file)


def _type_and_offset(kind: str, offset: int) -> bytes:
    return struct.pack("<IQ", ggml().GGMLQuantizationType[kind].value, offset)


def _name_and_shape(tensor: GgufTensor) -> tuple[int, int]:
    """Where the tensor's entry begins, and where its type stands."""
    return tensor.entry - 4 - 8 * len(tensor.shape) - 8 - len(tensor.key.encode()), tensor.entry


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(_padded(file.tell(), alignment) - file.tell()))


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    source.seek(begin)
    for at in range(begin, end, _CHUNK):
        target.write(source.read(min(_CHUNK, end - at)))
