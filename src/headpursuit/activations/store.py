"""A capture on disk: safetensors shards, an ``index.json`` that is written last, the tokenizer, and where the weights are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.errors import HeadPursuitError
from headpursuit.model.weights import FileWeights, locate_weights

if TYPE_CHECKING:
    from torch import Tensor

    from headpursuit.model.head_model import HeadModel

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
    _pending: dict[int, list[Tensor]] = field(default_factory=dict, repr=False)
    _pending_skipped: list[str] = field(default_factory=list, repr=False)
    _pending_done: int = 0

    @classmethod
    def create(cls, path: Path, *, model: HeadModel, about: Mapping[str, Any]) -> CaptureFolder:
        """Start a capture, or go on with the same one where it was cut off.

        Raises:
            HeadPursuitError: the folder holds something else.
        """
        identity = {
            "format": FORMAT,
            "model": model.identity,
            "about": dict(about),
        }
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            index = _read_index(path) if (path / INDEX).is_file() else {}
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
            "weights": locate_weights(model, path),
        }
        model.tokenizer.save_pretrained(path / "tokenizer")
        folder = cls(path, index)
        folder._write_index()
        return folder

    @property
    def samples_done(self) -> int:
        """How many samples lie safely on disk."""
        return self.index["samples_done"]

    def append(self, means: Mapping[int, Tensor], *, skipped: Sequence[str], samples_done: int) -> None:
        """Add the rows of some samples, shape ``(b, h, e)`` a layer."""
        for layer, mean in means.items():
            self._pending.setdefault(layer, []).append(mean)
        self._pending_skipped.extend(skipped)
        self._pending_done = samples_done
        if sum(mean.shape[0] for mean in next(iter(self._pending.values()))) >= SHARD_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is pending, check the whole, and mark the capture as complete.

        Raises:
            HeadPursuitError: all samples were skipped, values are not finite or do not vary.
        """
        self._flush()
        if not self.index["shards"]:
            raise HeadPursuitError(f"every sample was skipped: {self.index['skipped'][0]}")
        _read_activations(self.path, self.index).check()
        self.index["complete"] = True
        self._write_index()

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = {f"L{layer}": torch.cat(means) for layer, means in self._pending.items()}
        count = next(iter(rows.values())).shape[0]
        if count:
            name = f"activations-{len(self.index['shards']):05d}.safetensors"
            save_file(rows, self.path / name)
            self.index["shards"].append({"file": name, "rows": count})
        self.index["skipped"].extend(self._pending_skipped)
        self.index["samples_done"] = self._pending_done
        self._write_index()
        self._pending, self._pending_skipped = {}, []

    def _write_index(self) -> None:
        draft = self.path / f"{INDEX}.part"
        draft.write_text(json.dumps(self.index, indent=1), encoding="utf-8")
        draft.replace(self.path / INDEX)


def open_capture(path: str | Path) -> HeadActivations:
    """Open a capture folder.

    Raises:
        HeadPursuitError: it is no capture, is not complete, or was written by a later version.
    """
    path = Path(path)
    if not (path / INDEX).is_file():
        raise HeadPursuitError(f"{path} is no capture: give a folder that `headpursuit capture --out` wrote")
    index = _read_index(path)
    if index.get("format") != FORMAT:
        raise HeadPursuitError(
            f"{path} has capture format {index.get('format')}, this version reads {FORMAT}: capture again"
        )
    if not index["complete"]:
        raise HeadPursuitError(
            f"{path} was cut off after {index['samples_done']} samples: run the same capture again to go on"
        )
    return _read_activations(path, index)


def _read_activations(path: Path, index: Mapping[str, Any]) -> HeadActivations:
    parts: dict[int, list[Tensor]] = {layer: [] for layer in index["layers"]}
    for shard in index["shards"]:
        with safe_open(_inside(path, shard["file"]), framework="pt") as opened:
            for layer, rows in parts.items():
                rows.append(opened.get_tensor(f"L{layer}"))
    tensors = {name: {**entry, "file": _weights_file(path, entry["file"])} for name, entry in index["weights"].items()}
    return HeadActivations(
        z={layer: rows[0] if len(rows) == 1 else torch.cat(rows) for layer, rows in parts.items()},
        positions=index["about"]["positions"],
        weights=FileWeights(tensors),
        tokenizer=AutoTokenizer.from_pretrained(path / "tokenizer"),
        model=index["model"],
        about={**index["about"], "skipped": index["skipped"]},
    )


def _read_index(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadPursuitError(f"{path / INDEX} cannot be read ({error}): capture again") from error


def _inside(folder: Path, name: str) -> Path:
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise HeadPursuitError(
            f"{folder / INDEX} names {name}, which lies outside the folder: do not trust this capture"
        )
    return file


def _weights_file(folder: Path, name: str) -> Path:
    # The checkpoint's own shards lie elsewhere by design and are named in full; safetensors cannot run code.
    return Path(name) if Path(name).is_absolute() else _inside(folder, name)
