"""A capture on disk: safetensors shards, an ``index.json`` that is written last, the tokenizer, and where the weights are.

Whatever is read back is what was written: the index is sealed, and holds a hash of every other file and tensor.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import ALL
from headpursuit.activations.reducers import COUNT, SECOND, TOTAL, Reading, gathered, joined
from headpursuit.errors import HeadPursuitError, shown
from headpursuit.files import checked, file_hash, inside, read_sealed, write_sealed
from headpursuit.model.checkpoint_files import write_tensors
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import load_tokenizer
from headpursuit.model.weights import FileWeights, locate_weights

# What is taken for a capture.
ActsLike = HeadActivations | HeadMoments | str | Path

INDEX = "index.json"
FORMAT = 2
# Small batches would make thousands of files; rows gather until a shard is worth a file.
SHARD_ROWS = 512
# What is read is written where a window of batches ends, this long after the last time, in seconds: no more is lost.
KEPT_EVERY = 30.0
_LEFT_BEHIND = ("activations-*.safetensors", ".activations-*.part", ".weights.safetensors.*.part", f".{INDEX}.*.part")
_AGAIN = "delete the folder and capture again"


class _Entry(BaseModel):
    """A file of the index, and its hash."""

    model_config = ConfigDict(extra="forbid", strict=True)
    file: str
    sha256: str


class _Shard(_Entry):
    """A shard: its rows (tokens for moments), and how many samples had been read when it ended."""

    rows: int
    until: int


class _Weight(_Entry):
    """A tensor of the weights, see :class:`headpursuit.model.weights.FileWeights`."""

    key: str
    written: int
    n_heads: int | None = None
    input_first: bool | None = None


class _Index(BaseModel):
    """The content of ``index.json``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: int
    model: dict[str, Any]
    about: dict[str, Any]
    complete: bool
    layers: list[int]
    samples_done: int
    skipped: list[str]
    shards: list[_Shard]
    weights: dict[str, _Weight]
    tokenizer: list[_Entry]
    sha256: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether shards are added up, as moments are, or follow one another, as rows do."""
        return bool(self.about.get("positions") == ALL)


@dataclass
class CaptureFolder:
    """A capture that is being written.

    Attributes:
        path: the folder.
        index: what ``index.json`` holds; rewritten after each shard, so that a capture that is cut off can go on.
    """

    path: Path
    index: _Index
    # What belongs to the shard that is still growing, all of it: it is written whole each time, so that a capture has the same
    # shards however often it was kept or cut off.
    _open: list[Reading] = field(default_factory=list, repr=False)
    _open_from: int = 0
    _skipped: list[str] = field(default_factory=list, repr=False)
    _done: int = 0
    _kept_at: float = field(default_factory=time.monotonic)

    @classmethod
    def create(cls, path: Path, *, model: HeadModel, about: Mapping[str, Any]) -> "CaptureFolder":
        """Start a capture, or go on with the same one where it was cut off; the folder is this process's alone.

        Raises:
            HeadPursuitError: the folder holds something else.
        """
        if path.exists() and not path.is_dir():
            raise HeadPursuitError(f"{path} is not empty: choose a new folder, or delete this one")
        index = _read_index(path) if (path / INDEX).exists() else None
        if index is not None and not index.complete and not index.samples_done and not index.skipped:
            index = None  # it holds no sample, and what was asked of it may have been a mistake
        elif index is None and path.exists() and any(not one.name.startswith(".") for one in path.iterdir()):
            raise HeadPursuitError(f"{path} is not empty: choose a new folder, or delete this one")
        if index is not None:
            # Where a model lies may change; what it is, is told by the rest.
            if {**index.model, "id": None} != {**model.identity, "id": None} or index.about != json.loads(json.dumps(about)):
                raise HeadPursuitError(
                    f"{path} is not empty: it holds a capture of another model, or of other samples, options or versions; "
                    "choose a new folder, or delete this one"
                )
        else:
            index = _Index(
                format=FORMAT,
                model=model.identity,
                about=dict(about),
                complete=False,
                layers=[layer.index for layer in model.anatomy.layers],
                samples_done=0,
                skipped=[],
                shards=[],
                weights={},
                tokenizer=[],
            )
        folder = cls(path, index, _done=index.samples_done)
        if index.complete:
            return folder
        folder._sweep()
        if not index.tokenizer:  # written first, so that whatever lies beside it is known to be ours
            folder._write_index()
            weights = locate_weights(model, path, through_norm=bool(about.get("through_norm")))
            index.weights = {name: _Weight(**entry) for name, entry in weights.items()}
            model.tokenizer.save_pretrained(path / "tokenizer")
            written = sorted(one for one in (path / "tokenizer").rglob("*") if one.is_file())
            index.tokenizer = [_Entry(file=str(one.relative_to(path)), sha256=file_hash(one)) for one in written]
            folder._write_index()
        folder._reopen()
        return folder

    @property
    def samples_done(self) -> int:
        """Number of samples that lie safely on disk."""
        return self.index.samples_done

    def append(self, readings: Sequence[Reading], *, skipped: Sequence[str], samples_done: int) -> None:
        """Add what was read of some samples."""
        self._open = gathered(self._open, readings, add=self.index.adds_up)
        self._skipped.extend(skipped)
        self._done = samples_done
        full = samples_done - self._open_from >= SHARD_ROWS and bool(self._open)
        if full or time.monotonic() - self._kept_at >= KEPT_EVERY:
            self._keep()
        if full:
            self._open_from = samples_done
            self._open = self._open if self.index.adds_up else []

    def finish(self, tokenizer: Any) -> HeadActivations | HeadMoments:
        """Write what is pending, check the whole, and mark the capture as complete; one that is complete is read.

        Raises:
            HeadPursuitError: all samples were skipped, values are not finite or do not vary.
        """
        if self.index.complete:
            return _read(self.path, self.index, tokenizer)
        self._keep()
        if not self.index.shards:
            raise HeadPursuitError(f"every sample was skipped: {self.index.skipped[0]}")
        found = _read(self.path, self.index, tokenizer)
        found.check()
        self.index.complete = True
        self._write_index()
        return found

    def _keep(self) -> None:
        """Write the growing shard in place of its last version."""
        earlier = self.index.shards
        closed = [shard for shard in earlier if not self.index.adds_up and shard.until <= self._open_from]
        if self._open and self._done > self.index.samples_done:
            file = self.path / f"activations-{self._done:09d}.safetensors"
            whole = joined(self._open, add=self.index.adds_up)
            write_tensors(file, whole)
            new = _Shard(file=file.name, sha256=file_hash(file), rows=_rows(whole), until=self._done)
            self.index.shards = [*closed, new]
        self.index.skipped.extend(self._skipped)
        self.index.samples_done = self._done
        self._write_index()
        self._skipped, self._kept_at = [], time.monotonic()
        self._sweep()

    def _reopen(self) -> None:
        """Take up the growing shard where it was cut off."""
        shards = self.index.shards
        before = max((shard.until for shard in shards[:-1]), default=0)
        if shards and (self.index.adds_up or shards[-1].until - before < SHARD_ROWS):
            self._open, self._open_from = [_load(self.path, shards[-1])], before
        elif shards:
            self._open_from = shards[-1].until

    def _sweep(self) -> None:
        """Delete shards and drafts that the index does not name, which only a process that was cut off leaves behind."""
        named = {shard.file for shard in self.index.shards}
        for old in (old for pattern in _LEFT_BEHIND for old in self.path.glob(pattern)):
            if old.name not in named:
                old.unlink()

    def _write_index(self) -> None:
        write_sealed(self.path / INDEX, self.index.model_dump(exclude={"sha256"}))


def is_complete(path: Path) -> bool:
    """Whether a folder holds a capture that was finished."""
    return (path / INDEX).is_file() and _read_index(path).complete


def open_capture(path: str | Path, *, trust_remote_code: bool = False) -> HeadActivations | HeadMoments:
    """Open a capture folder.

    Args:
        path: the folder.
        trust_remote_code: run code that came with the model's tokenizer. Off unless asked.

    Raises:
        HeadPursuitError: it is no capture, is not complete or in another format, or one of its files or the checkpoint that it
            refers to is not what it was.

    >>> acts = hp.capture(model, samples, out=tmp_path / "acts", progress=False)
    >>> hp.open_capture(tmp_path / "acts") == acts
    True
    """
    path = Path(path)
    if not (path / INDEX).is_file():
        raise HeadPursuitError(f"{path} is no capture: give a folder that `headpursuit capture --out` wrote")
    index = _read_index(path)
    if not index.complete:
        raise HeadPursuitError(f"{path} was cut off after {index.samples_done} samples: run the same capture again to go on")
    for entry in index.tokenizer:
        _check(path, entry)
    return _read(path, index, load_tokenizer(path / "tokenizer", trust_remote_code=trust_remote_code))


def as_acts(acts: ActsLike) -> HeadActivations | HeadMoments:
    """A capture in memory as it is, or the one that lies in a folder.

    Raises:
        HeadPursuitError: it is neither.
    """
    if isinstance(acts, str | Path):
        return open_capture(acts)
    if not isinstance(acts, HeadActivations | HeadMoments):
        raise HeadPursuitError(f"{shown(acts)} is no capture: give what hp.capture returns, or the folder of one")
    return acts


def as_captured(reading: Reading, *, positions: str, **common: Any) -> HeadActivations | HeadMoments:
    """Give a whole reading its meaning: rows, or moments for ``positions="all"``."""
    if positions != ALL:
        z = {_layer_of(name): rows for name, rows in reading.items()}
        return HeadActivations(z=z, positions=positions, **common)

    def layers(kind: str) -> dict[int, Tensor]:
        return {_layer_of(name): value for name, value in reading.items() if name.endswith(f".{kind}")}

    return HeadMoments(count=int(reading[COUNT]), total=layers(TOTAL), second=layers(SECOND), positions=positions, **common)


def _read_index(path: Path) -> _Index:
    """The index of a folder, all of whose files lie in it.

    Raises:
        HeadPursuitError: it cannot be read or is not as it was written.
    """
    file = path / INDEX
    content = read_sealed(file, format=FORMAT, what="index of a capture", remedy=_AGAIN)
    index = checked(_Index, content, what=f"{file} is no index of a capture", remedy=_AGAIN)
    for shard in index.shards:
        inside(path, shard.file, what="shard", where=str(file))
    for entry in index.tokenizer:
        inside(path, entry.file, what="tokenizer's file", where=str(file))
    ends = [shard.until for shard in index.shards]
    if ends != sorted(set(ends)) or any(end > index.samples_done for end in ends):
        raise HeadPursuitError(f"{file} names its shards in another order than they were written: {_AGAIN}")
    counted = sum(shard.rows for shard in index.shards) + len(index.skipped)
    if not index.adds_up and counted != index.samples_done:
        raise HeadPursuitError(f"{file} counts {index.samples_done} samples, its shards have {counted}: {_AGAIN}")
    return index


def _read(path: Path, index: _Index, tokenizer: Any) -> HeadActivations | HeadMoments:
    whole = joined([_load(path, shard) for shard in index.shards], add=index.adds_up)
    weights = {
        name: {**entry.model_dump(exclude_none=True), "file": _weights_file(path, entry.file)}
        for name, entry in index.weights.items()
    }
    held = FileWeights(weights)
    held.check()
    return as_captured(
        {name: whole[name] for name in sorted(whole, key=_layer_of)},
        positions=index.about["positions"],
        weights=held,
        tokenizer=tokenizer,
        model=index.model,
        about={**index.about, "skipped": index.skipped},
    )


def _load(path: Path, shard: _Shard) -> Reading:
    _check(path, shard)
    try:
        reading = load_file(path / shard.file)
    except (OSError, SafetensorError) as error:
        raise HeadPursuitError(f"{path / shard.file} cannot be read ({error}): {_AGAIN}") from error
    if not reading or _rows(reading) != shard.rows:
        raise HeadPursuitError(f"{path / shard.file} has other rows than {INDEX} says: {_AGAIN}")
    return reading


def _check(path: Path, entry: _Entry) -> None:
    if file_hash(path / entry.file) != entry.sha256:
        raise HeadPursuitError(f"{path / entry.file} is not as it was written, it was changed or damaged: {_AGAIN}")


def _rows(reading: Reading) -> int:
    return int(reading[COUNT]) if COUNT in reading else len(next(iter(reading.values())))


def _layer_of(name: str) -> int:
    # safetensors sorts names as text, which puts L10 before L2.
    return -1 if name == COUNT else int(name[1:].split(".")[0])


def _weights_file(folder: Path, name: str) -> Path:
    # The checkpoint's own shards lie elsewhere by design and are named in full; safetensors cannot run code.
    if Path(name).is_absolute():
        return Path(name)
    return inside(folder, name, what="file of weights", where=str(folder / INDEX))
