"""The safetensors files of a checkpoint: which they are, what lies where in them, and which tensor a module's weight is.

transformers renames keys while loading, differently from release to release; the ends of names and the contents stay.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.files import drafted, read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Names of weights in forms that are not loaded here. Beside an edited checkpoint they would be unedited ones.
OTHER_FORMS = (
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    "consolidated*",
    "*.ckpt",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.onnx_data",
    "*.ot",
    "*.pt",
    "*.pth",
)
# Formats that run code when they are opened.
PICKLES = ("*.pkl", "*.pickle", "*.pck", "*.dill", "*.joblib", "*.bin", "*.npy", "*.npz")
_CANDIDATES = 8
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file.

    Attributes:
        file: the file.
        key: its name in the file.
        dtype: as the format writes it (``F32``, ``BF16``, …).
        shape: its shape.
        begin: its first byte, counted from the start of the file.
        end: the byte behind its last.
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def read(self) -> Tensor:
        """The tensor.

        Raises:
            HeadPursuitError: the file cannot be read.
        """
        try:
            with safe_open(self.file, framework="pt") as opened:
                return opened.get_tensor(self.key)
        except (OSError, SafetensorError) as error:
            raise HeadPursuitError(f"{self.file}: {self.key} cannot be read ({error})") from error

    def read_rows(self, rows: Sequence[int]) -> Tensor:
        """Some rows of a matrix, without reading the others.

        Raises:
            HeadPursuitError: the file cannot be read.
        """
        try:
            with safe_open(self.file, framework="pt") as opened:
                stored = opened.get_slice(self.key)
                return torch.cat([stored[row : row + 1] for row in rows])
        except (OSError, SafetensorError) as error:
            raise HeadPursuitError(f"{self.file}: {self.key} cannot be read ({error})") from error


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes, as hexadecimal digits."""
    plain = tensor.detach().cpu().contiguous()
    found = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    found.update(plain.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        HeadPursuitError: the disk is full, or the file cannot be written.
    """
    with drafted(path) as draft:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def defect(folder: Path) -> str | None:
    """A fault in a checkpoint's files by which no model can be loaded, and what to do about it; None where none is seen."""
    if not (folder / "config.json").is_file():
        return f"({folder} holds no config.json): give a folder in the Hub's format"
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if is_pointer(path):
            return f"({path} is a pointer of git-lfs and not the file itself): run `git lfs pull` there"
    try:
        read_json(folder / "config.json")
        stored_tensors(checkpoint_files(folder))
    except HeadPursuitError as error:
        return f"({error})"
    return None


def is_pointer(path: Path) -> bool:
    """Whether a file is what git leaves in place of one that git-lfs keeps.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that a checkpoint's model is loaded from; others beside them are none of its own.

    Raises:
        HeadPursuitError: the index cannot be read, or names a file outside the folder.
    """
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    index = folder / INDEX
    if not index.is_file():
        return ()
    try:
        names = sorted(set(map(str, read_json(index)["weight_map"].values())))
    except (KeyError, TypeError, AttributeError) as error:
        raise HeadPursuitError(f"{index} names no weights ({error}): download the checkpoint again") from error
    for name in names:
        if Path(name).name != name:
            raise HeadPursuitError(f"{index} names {name}, which lies outside the folder: do not trust this checkpoint")
    return tuple(folder / name for name in names)


def stored_tensors(files: Iterable[Path]) -> list[StoredTensor]:
    """Every tensor of some files, from their headers alone.

    Raises:
        HeadPursuitError: a file is missing, or is no safetensors file.
    """
    found = []
    for path in files:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size
                if length > size:
                    raise ValueError(f"its header should have {length} bytes, the file has {size}")
                header = json.loads(file.read(length))
            for key, entry in header.items():
                if key != "__metadata__":
                    begin, end = (8 + length + offset for offset in entry["data_offsets"])
                    if end > size:
                        raise ValueError(f"{key} should end at byte {end}, the file has {size}: it is cut off")
                    found.append(StoredTensor(path, key, entry["dtype"], tuple(entry["shape"]), begin, end))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HeadPursuitError(f"{path} is no readable safetensors file ({error}): download it again") from error
    return found


def find_by_content(name: str, tensor: Tensor, stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The stored tensor that a weight in memory was loaded from, or None.

    Args:
        name: the weight's name in the model, whose end decides what is compared first.
        tensor: the weight.
        stored: where to look.
    """
    for one in likely(name, tensor.shape, stored):
        if torch.equal(one.read().to(tensor.device, tensor.dtype), tensor):
            return one
    return None


def likely(name: str, shape: Sequence[int], stored: Sequence[StoredTensor]) -> list[StoredTensor]:
    """A few stored tensors of a weight's shape, those first whose names end most like its own, and then those of its layer."""
    same_shape = [one for one in stored if one.shape == tuple(shape)]
    layer = _first_number(name)
    return sorted(same_shape, key=lambda one: (-_shared_ending(name, one.key), _first_number(one.key) != layer))[:_CANDIDATES]


def find_by_name(name: str, shape: Sequence[int], stored: Sequence[StoredTensor]) -> StoredTensor | None:
    """The one stored tensor of that shape whose key ends like a weight's name, the number of its layer included, or None.

    Args:
        name: the weight's name in the model.
        shape: its shape.
        stored: where to look.

    Returns:
        None where no tensor is meant, or where several may be.
    """
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return None
    endings = {one: _shared_ending(name, one.key) for one in stored if one.shape == tuple(shape)}
    longest = max(endings.values(), default=0)
    found = [one for one, ending in endings.items() if ending == longest]
    return found[0] if len(found) == 1 and longest >= len(parts) - numbers[-1] else None


def _first_number(name: str) -> str | None:
    return next((part for part in name.split(".") if part.isdigit()), None)


def _shared_ending(name: str, key: str) -> int:
    count = 0
    for own, other in zip(reversed(name.split(".")), reversed(key.split(".")), strict=False):
        if own != other:
            break
        count += 1
    return count
