"""A capture on disk: safetensors shards, an ``index.json`` that is written last, the tokenizer, and where the weights are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import ALL
from headpursuit.activations.reducers import COUNT, SECOND, TOTAL, Reading, gathered, joined
from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, read_json, write_json
from headpursuit.model.head_model import HeadModel
from headpursuit.model.weights import FileWeights, locate_weights

INDEX = "index.json"
FORMAT = 1
# Small batches would make thousands of files; rows gather until a shard is worth a file.
SHARD_ROWS = 512


@dataclass
class CaptureFolder:
    """A capture that is being written.

    Attributes:
        path: the folder.
        index: what ``index.json`` holds; rewritten after each shard, so that a capture that is cut off can go on.
    """

    path: Path
    index: dict[str, Any]
    _pending: list[Reading] = field(default_factory=list, repr=False)
    _pending_skipped: list[str] = field(default_factory=list, repr=False)
    _pending_done: int = 0

    @classmethod
    def create(cls, path: Path, *, model: HeadModel, about: Mapping[str, Any]) -> CaptureFolder:
        """Start a capture, or go on with the same one where it was cut off.

        Raises:
            HeadPursuitError: the folder holds something else.
        """
        identity = {"format": FORMAT, "model": model.identity, "about": dict(about)}
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            index = read_json(path / INDEX) if (path / INDEX).is_file() else {}
            if index.get("complete") is not False or any(index.get(key) != value for key, value in identity.items()):
                raise HeadPursuitError(f"{path} is not empty: choose a new folder, or delete this one")
            return cls(path, index)
        path.mkdir(parents=True, exist_ok=True)
        index = {
            **identity,
            "complete": False,
            "layers": [layer.index for layer in model.anatomy.layers],
            "samples_done": 0,
            "skipped": [],
            "shards": [],
            "weights": locate_weights(model, path, through_norm=bool(about.get("through_norm"))),
        }
        model.tokenizer.save_pretrained(path / "tokenizer")
        folder = cls(path, index)
        folder._write_index()
        return folder

    @property
    def samples_done(self) -> int:
        """Number of samples that lie safely on disk."""
        return self.index["samples_done"]

    @property
    def adds_up(self) -> bool:
        """Whether parts are added up, as moments are, or follow one another, as rows do."""
        return self.index["about"]["positions"] == ALL

    def append(self, readings: Sequence[Reading], *, skipped: Sequence[str], samples_done: int) -> None:
        """Add what was read of some samples."""
        self._pending = gathered(self._pending, readings, add=self.adds_up)
        self._pending_skipped.extend(skipped)
        self._pending_done = samples_done
        if samples_done - self.samples_done >= SHARD_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is pending, check the whole, and mark the capture as complete.

        Raises:
            HeadPursuitError: all samples were skipped, values are not finite or do not vary.
        """
        self._flush()
        if not self.index["shards"]:
            raise HeadPursuitError(f"every sample was skipped: {self.index['skipped'][0]}")
        _read(self.path, self.index).check()
        self.index["complete"] = True
        self._write_index()

    def _flush(self) -> None:
        earlier = list(self.index["shards"])
        if self._pending:
            parts = self._pending
            if self.adds_up and earlier:
                parts = [*parts, load_file(self.path / earlier[-1])]
            name = f"activations-{self._pending_done:09d}.safetensors"
            save_file(joined(parts, add=self.adds_up), self.path / name)
            self.index["shards"] = [name] if self.adds_up else [*earlier, name]
        self.index["skipped"].extend(self._pending_skipped)
        self.index["samples_done"] = max(self._pending_done, self.samples_done)
        self._write_index()
        self._pending, self._pending_skipped = [], []
        for old in set(earlier) - set(self.index["shards"]):
            (self.path / old).unlink()

    def _write_index(self) -> None:
        write_json(self.path / INDEX, self.index)


def open_capture(path: str | Path) -> HeadActivations | HeadMoments:
    """Open a capture folder.

    Raises:
        HeadPursuitError: it is no capture, is not complete, or was written by a later version.

    >>> acts = hp.capture(model, samples, out=tmp_path / "acts", progress=False)
    >>> hp.open_capture(tmp_path / "acts") == acts
    True
    """
    path = Path(path)
    if not (path / INDEX).is_file():
        raise HeadPursuitError(f"{path} is no capture: give a folder that `headpursuit capture --out` wrote")
    index = read_json(path / INDEX)
    if index.get("format") != FORMAT:
        raise HeadPursuitError(f"{path} has capture format {index.get('format')}, this version reads {FORMAT}: capture again")
    if not index["complete"]:
        raise HeadPursuitError(f"{path} was cut off after {index['samples_done']} samples: run the same capture again to go on")
    return _read(path, index)


def as_captured(reading: Reading, *, positions: str, **common: Any) -> HeadActivations | HeadMoments:
    """Give a whole reading its meaning: rows, or moments for ``positions="all"``."""
    if positions != ALL:
        z = {_layer_of(name): rows for name, rows in reading.items()}
        return HeadActivations(z=z, positions=positions, **common)

    def layers(kind: str) -> dict[int, Tensor]:
        return {_layer_of(name): value for name, value in reading.items() if name.endswith(f".{kind}")}

    return HeadMoments(count=int(reading[COUNT]), total=layers(TOTAL), second=layers(SECOND), positions=positions, **common)


def _read(path: Path, index: Mapping[str, Any]) -> HeadActivations | HeadMoments:
    positions = index["about"]["positions"]
    parts = [load_file(inside(path, name, what="shard", where=str(path / INDEX))) for name in index["shards"]]
    whole = joined(parts, add=positions == ALL)
    tensors = {name: {**entry, "file": _weights_file(path, entry["file"])} for name, entry in index["weights"].items()}
    return as_captured(
        {name: whole[name] for name in sorted(whole, key=_layer_of)},
        positions=positions,
        weights=FileWeights(tensors),
        tokenizer=AutoTokenizer.from_pretrained(path / "tokenizer"),
        model=index["model"],
        about={**index["about"], "skipped": index["skipped"]},
    )


def _layer_of(name: str) -> int:
    # safetensors sorts names as text, which puts L10 before L2.
    return -1 if name == COUNT else int(name[1:].split(".")[0])


def _weights_file(folder: Path, name: str) -> Path:
    # The checkpoint's own shards lie elsewhere by design and are named in full; safetensors cannot run code.
    if Path(name).is_absolute():
        return Path(name)
    return inside(folder, name, what="file of weights", where=str(folder / INDEX))
