"""A capture on disk: a safetensors shard for each block of samples, ``index.json``, the tokenizer, and where the weights are.

A shard is named after its block and says itself what it holds, so that the index is put together at the end from the shards
that lie there, whoever wrote them and however often. Whatever is read back is what was written: the index is sealed, and holds
a hash of every other file and tensor.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import ALL
from headpursuit.activations.reducers import COUNT, PLACES, SECOND, TOTAL, Reading, joined, parted
from headpursuit.activations.reservoir import Drawn
from headpursuit.errors import HeadPursuitError, shown
from headpursuit.files import checked, digest, file_hash, inside, read_json, read_sealed, write_json, write_sealed
from headpursuit.model.checkpoint_files import tensor_hash, write_tensors
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import load_tokenizer
from headpursuit.model.weights import FileWeights, locate_weights
from headpursuit.stores import address, checked_here, fetched, linked_mirror, mirrored

# What is taken for a capture.
ActsLike = HeadActivations | HeadMoments | str | Path

INDEX = "index.json"
FORMAT = 3
# A sum of moments is written so long after the last time, in seconds: no more is lost. Rows are written block by block.
KEPT_EVERY = 30.0
# Under which a shard tells of itself in its header.
_TOLD = "headpursuit"
_SHARDS, _ROWS = "activations-*.safetensors", "rows-*.safetensors"
_LEFT_BEHIND = (".activations-*.part", ".rows-*.part", ".weights.safetensors.*.part", f".{INDEX}.*.part")
_AGAIN = "delete the folder and capture again"


def adds_up(about: Mapping[str, Any]) -> bool:
    """Whether a capture of such options is one of moments."""
    return about.get("positions") == ALL or "keep_rows" in about


class _Entry(BaseModel):
    """A file of the index, and its hash."""

    model_config = ConfigDict(extra="forbid", strict=True)
    file: str
    sha256: str


class _Block(BaseModel):
    """What became of a block: how many samples it has, which were skipped, as messages, and whose rows were kept.

    Those are told by their places in the block and the numbers by which they were drawn.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    n: int
    skipped: list[str] = []
    kept: list[list[int]] = []


class _Shard(_Entry):
    """A shard: its rows (tokens for moments), and its blocks by their keys; a sum of moments is of several."""

    rows: int
    blocks: dict[str, _Block]


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
    blocks: list[str]
    shards: list[_Shard]
    rows: list[_Shard] = []
    weights: dict[str, _Weight]
    tokenizer: list[_Entry]
    sha256: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether shards are added up, as moments are, or follow one another, as rows do."""
        return adds_up(self.about)

    @property
    def skipped(self) -> list[str]:
        """The messages of the samples that were skipped, in the samples' order."""
        kept = {key: block for shard in self.shards for key, block in shard.blocks.items()}
        return [line for key in self.blocks for line in kept[key].skipped]


@dataclass
class CaptureFolder:
    """A capture that is being written.

    Attributes:
        path: the folder.
        index: what ``index.json`` holds.
        keys: the blocks that the whole capture is made of, in their order.
        held: for each shard that lies in the folder its blocks.
        drawn: the samples whose rows are kept beside moments.
    """

    path: Path
    index: _Index
    keys: Sequence[str]
    held: dict[str, dict[str, _Block]] = field(default_factory=dict)
    drawn: Drawn = field(default_factory=dict, repr=False)
    # Moments are summed up, and the sum is written again each time in place of its last version.
    _sum: Reading | None = field(default=None, repr=False)
    _summed: dict[str, _Block] = field(default_factory=dict, repr=False)
    _kept_at: float = field(default_factory=time.monotonic)

    @classmethod
    def create(
        cls, path: Path, *, model: HeadModel, about: Mapping[str, Any], keys: Sequence[str], drawn: Drawn
    ) -> "CaptureFolder":
        """Start a capture, or go on with one of the same blocks or of some of them; the folder is this process's alone.

        Raises:
            HeadPursuitError: the folder holds something else.
        """
        if path.exists() and not path.is_dir():
            raise HeadPursuitError(f"{path} is not empty: choose a new folder, or delete this one")
        index = _read_index(path) if (path / INDEX).exists() else None
        shards = sorted(path.glob(_SHARDS)) if path.exists() else []
        if index is not None and index.complete and not _differs(index, model, about):
            return cls(path, index, keys)
        held = {shard.name: _blocks_in(shard) for shard in shards}
        begun = index is not None and not index.complete and not index.shards  # by us, whatever else lies there
        if not held and not begun and path.exists() and any(not one.name.startswith(".") for one in path.iterdir()):
            raise HeadPursuitError(f"{path} is not empty: choose a new folder, or delete this one")
        kept = [_blocks_in(one) for one in path.glob(_ROWS)]
        if any(not blocks.keys() <= set(keys) for blocks in (*held.values(), *kept)):
            raise HeadPursuitError(
                f"{path} is not empty: it holds a capture of another model, or of other samples, options or versions; "
                "choose a new folder, or delete this one"
            )
        written = index is not None and held and index.tokenizer
        folder = cls(
            path,
            _Index(
                format=FORMAT,
                model=model.identity,
                about=dict(about),
                complete=False,
                layers=[layer.index for layer in model.anatomy.layers],
                blocks=[],
                shards=[],
                weights=index.weights if index and written else {},
                tokenizer=index.tokenizer if index and written else [],
            ),
            keys,
            held,
            drawn,
        )
        folder._sweep()
        if not written:  # the index first, so that whatever lies beside it is known to be ours
            folder._write_index()
            weights = locate_weights(model, path, through_norm=bool(about.get("through_norm")))
            folder.index.weights = {name: _Weight(**entry) for name, entry in weights.items()}
            _save_tokenizer(model.tokenizer, path / "tokenizer")
            files = sorted(one for one in (path / "tokenizer").rglob("*") if one.is_file())
            folder.index.tokenizer = [_Entry(file=str(one.relative_to(path)), sha256=file_hash(one)) for one in files]
        folder._write_index()
        if folder.index.adds_up and held:
            folder._sum = joined([_load(path / name) for name in folder.held], add=True)
            folder._summed = {key: block for blocks in folder.held.values() for key, block in blocks.items()}
        return folder

    @property
    def done(self) -> set[str]:
        """The blocks that need not be read again."""
        return {key for blocks in self.held.values() for key in blocks} | self._summed.keys()

    def append(self, key: str, reading: Reading, *, n: int, skipped: Sequence[str]) -> None:
        """Add what was read of a block of ``n`` samples; an empty reading where all of them were skipped."""
        block = _Block(n=n, skipped=list(skipped))
        if not self.index.adds_up:
            self._write(reading, {key: block})
            return
        moments, rows = parted(reading)
        if rows:  # in front of a sum that says that they are there
            block.kept = [[place, self.drawn[key][place]] for place in rows.pop(PLACES).tolist()]
            self._write_shard(_rows_file(key), rows, {key: block})
        if moments:
            self._sum = joined([self._sum, moments], add=True) if self._sum else moments
        self._summed[key] = block
        if time.monotonic() - self._kept_at >= KEPT_EVERY:
            self._write(self._sum or {}, self._summed)
            self._kept_at = time.monotonic()

    def finish(self, tokenizer: Any) -> HeadActivations | HeadMoments:
        """Write what is pending, put the index together, check the whole, and mark the capture as complete.

        One that is complete is read.

        Raises:
            HeadPursuitError: all samples were skipped, values are not finite or do not vary, a block is missing.
        """
        if self.index.complete:
            return _read(self.path, self.index, tokenizer)
        if self.index.adds_up and self._summed.keys() - {key for blocks in self.held.values() for key in blocks}:
            self._write(self._sum or {}, self._summed)
        order = {key: place for place, key in enumerate(self.keys)}
        named = sorted(self.held, key=lambda name: min(order[key] for key in self.held[name]))
        read = [_shard_of(self.path / name) for name in named]
        self.index.shards, self.index.blocks = [shard for shard, _ in read], list(self.keys)
        if not any(shard.rows for shard in self.index.shards):
            skipped = self.index.skipped
            for name in named:  # they hold nothing, and would stand in the way of other samples
                (self.path / name).unlink()
            self.index.shards, self.index.blocks = [], []
            self._write_index()
            raise HeadPursuitError(f"every sample was skipped: {skipped[0]}")
        blocks = {key: block for shard in self.index.shards for key, block in shard.blocks.items()}
        self.index.rows = [shard for key in self.keys for shard in self._rows_of(key, blocks[key])]
        found = _captured(self.path, self.index, [reading for _, reading in read], tokenizer)
        found.check()
        self.index.complete = True
        self._write_index()
        return found

    def _rows_of(self, key: str, block: _Block) -> list[_Shard]:
        """The shard of a block's kept rows, where it has any, without those that a draw from more samples does not choose."""
        file, chosen = self.path / _rows_file(key), self.drawn.get(key, {})
        stay = [row for row, (place, _) in enumerate(block.kept) if place in chosen]
        if not stay:
            file.unlink(missing_ok=True)
            return []
        shard, rows = _shard_of(file)
        held = shard.blocks[key].kept
        stay = [row for row, (place, _) in enumerate(held) if place in chosen]
        if len(stay) < len(held):
            less = block.model_copy(update={"kept": [held[row] for row in stay]})
            self._write_shard(file.name, {name: value[stay] for name, value in rows.items()}, {key: less})
            shard, _ = _shard_of(file)
        return [shard]

    def _write(self, reading: Reading, blocks: Mapping[str, _Block]) -> None:
        keys = list(blocks)
        name = f"activations-{keys[0] if len(keys) == 1 else digest({'blocks': keys})}.safetensors"
        self._write_shard(name, reading, blocks)
        self.held[name] = dict(blocks)
        self._sweep()

    def _write_shard(self, name: str, reading: Reading, blocks: Mapping[str, _Block]) -> None:
        told = {key: block.model_dump(exclude_defaults=True) for key, block in blocks.items()}
        # One entry: of several the order in the file would be another each time.
        metadata = {_TOLD: json.dumps({"blocks": told, "sha256": _seal(told, reading)})}
        write_tensors(self.path / name, reading, metadata=metadata)

    def _sweep(self) -> None:
        """Delete drafts, and sums of moments that a later one holds, which only a process that was cut off leaves behind."""
        for old in (old for pattern in _LEFT_BEHIND for old in self.path.glob(pattern)):
            old.unlink()
        taken: set[str] = set()
        for name, blocks in sorted(self.held.items(), key=lambda item: -len(item[1])):
            if taken & blocks.keys():
                (self.path / name).unlink(missing_ok=True)
                del self.held[name]
            taken |= blocks.keys()

    def _write_index(self) -> None:
        write_sealed(self.path / INDEX, self.index.model_dump(exclude={"sha256"}, exclude_defaults=True))


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    content = read_json(config) if config.is_file() else {}
    named = content.get("auto_map", {})
    if isinstance(named, dict) and isinstance(one := named.get("AutoTokenizer"), str):
        # transformers writes one name of code that came with it, and reads a pair.
        write_json(config, {**content, "auto_map": {**named, "AutoTokenizer": [one, None]}})


def _differs(index: _Index, model: HeadModel, about: Mapping[str, Any]) -> bool:
    # Where a model lies may change; what it is, is told by the rest.
    return {**index.model, "id": None} != {**model.identity, "id": None} or index.about != json.loads(json.dumps(about))


def _seal(told: Mapping[str, Any], reading: Reading) -> str:
    """A hash of a shard's content, by which it is known to be whole before an index names it."""
    found = hashlib.sha256(json.dumps(told).encode())
    for name in sorted(reading):
        found.update(f"{name} {tensor_hash(reading[name])}".encode())
    return found.hexdigest()


def _told(path: Path) -> dict[str, Any]:
    """What a shard tells of itself in its header: its blocks, and the seal of it all.

    Raises:
        HeadPursuitError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})[_TOLD])
        return {"blocks": dict(told["blocks"]), "sha256": str(told["sha256"])}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise HeadPursuitError(f"{path} cannot be read ({' '.join(str(error).split()):.200}): {_AGAIN}") from error


def _blocks_in(path: Path) -> dict[str, _Block]:
    """The blocks that a shard holds, from its header."""
    told = _told(path)["blocks"]
    return {key: checked(_Block, block, what=f"{path} is no shard", remedy=_AGAIN) for key, block in told.items()}


def _shard_of(path: Path) -> tuple[_Shard, Reading]:
    """A shard's entry of the index and its content, once it is known to be as it was written.

    Raises:
        HeadPursuitError: it is not.
    """
    reading, told = _load(path), _told(path)
    if told["sha256"] != _seal(told["blocks"], reading):
        raise HeadPursuitError(f"{path} is not as it was written, it was changed or damaged: {_AGAIN}")
    shard = _Shard(file=path.name, sha256=file_hash(path), rows=_rows(reading), blocks=_blocks_in(path))
    return shard, reading


def is_complete(path: Path) -> bool:
    """Whether a folder holds a capture that was finished."""
    return (path / INDEX).is_file() and _read_index(path).complete


def open_capture(path: str | Path, *, trust_remote_code: bool = False) -> HeadActivations | HeadMoments:
    """Open a capture folder.

    Of one in a store what is needed is fetched, once, see :func:`headpursuit.stores.cache_folder`.

    Args:
        path: the folder, on this machine or in a store.
        trust_remote_code: run code that came with the model's tokenizer. Off unless asked.

    Raises:
        HeadPursuitError: it is no capture, is not complete or in another format, or one of its files or the checkpoint that it
            refers to is not what it was.

    >>> acts = hp.capture(model, samples, out=tmp_path / "acts", progress=False)
    >>> hp.open_capture(tmp_path / "acts") == acts
    True
    """
    where = address(path)
    folder = Path(path) if where is None else mirrored(where, INDEX)
    if folder is None or not (folder / INDEX).is_file():
        raise HeadPursuitError(f"{where or path} is no capture: give a folder that `headpursuit capture --out` wrote")
    index = _read_index(folder)
    if not index.complete:
        held = {key: block.n for shard in fetched(path).glob(_SHARDS) for key, block in _blocks_in(shard).items()}
        done = sum(held.values())
        raise HeadPursuitError(f"{where or path} was cut off after {done} samples: run the same capture again to go on")
    for entry in index.tokenizer:
        _check(folder, entry)
    return _read(folder, index, load_tokenizer(folder / "tokenizer", trust_remote_code=trust_remote_code))


def open_sent(folder: Path, where: str, tokenizer: Any) -> HeadActivations | HeadMoments:
    """A capture that was just sent to a store from a folder that goes: read from this machine's cache, where it stays."""
    mirror = linked_mirror(folder, where, INDEX)
    return _read(mirror, _read_index(mirror), tokenizer)


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


def as_captured(
    reading: Reading, *, rows: Mapping[int, Tensor], numbers: Sequence[tuple[int, int]], **common: Any
) -> HeadActivations | HeadMoments:
    """Give a whole reading its meaning: rows, or moments with the rows that were kept beside them.

    Args:
        reading: the rows or moments.
        rows: kept rows by layer.
        numbers: of the samples that these are of, and of their draw; none where no rows were kept.
        common: what captures have in common.
    """
    if COUNT not in reading:
        return HeadActivations(z=rows_by_layer([reading]), **common)

    def layers(kind: str) -> dict[int, Tensor]:
        return {_layer_of(name): value for name, value in reading.items() if name.endswith(f".{kind}")}

    kept = HeadActivations(z=rows, numbers=tuple(number for number, _ in numbers), **common) if numbers else None
    return HeadMoments(
        count=int(reading[COUNT]),
        total=layers(TOTAL),
        second=layers(SECOND),
        rows=kept,
        ranks=tuple(rank for _, rank in numbers),
        **common,
    )


def rows_by_layer(readings: Sequence[Reading]) -> dict[int, Tensor]:
    """Rows of several readings, one below the other, by layer."""
    return {_layer_of(name): rows for name, rows in joined(readings, add=False).items()} if readings else {}


class _LaterRows(Mapping[int, Tensor]):
    """Rows by layer that are read when the first is looked at."""

    def __init__(self, layers: Sequence[int], read: Callable[[], Mapping[int, Tensor]]) -> None:
        self._layers, self._read = layers, cache(read)

    def __getitem__(self, layer: int) -> Tensor:
        return self._read()[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def _read_index(path: Path) -> _Index:
    """The index of a folder, all of whose files lie in it.

    Raises:
        HeadPursuitError: it cannot be read or is not as it was written.
    """
    file = path / INDEX
    content = read_sealed(file, format=FORMAT, what="index of a capture", remedy=_AGAIN)
    index = checked(_Index, content, what=f"{file} is no index of a capture", remedy=_AGAIN)
    for shard in (*index.shards, *index.rows):
        inside(path, shard.file, what="shard", where=str(file))
    for entry in index.tokenizer:
        inside(path, entry.file, what="tokenizer's file", where=str(file))
    if index.blocks != _in_order(index):
        raise HeadPursuitError(f"{file} names its shards in another order than they were written: {_AGAIN}")
    for shard in index.shards:
        samples = sum(block.n - len(block.skipped) for block in shard.blocks.values())
        if not index.adds_up and samples != shard.rows:
            raise HeadPursuitError(f"{file} counts {samples} samples, its shard {shard.file} has {shard.rows}: {_AGAIN}")
    if index.complete and sum(block.n for shard in index.shards for block in shard.blocks.values()) != index.about.get(
        "n_samples"
    ):
        raise HeadPursuitError(f"{file} counts {index.about.get('n_samples')} samples, its shards have others: {_AGAIN}")
    return index


def _in_order(index: _Index) -> list[str]:
    """The blocks as the shards name them; those of sums in the order of the index, where the same ones are named."""
    named = [key for shard in index.shards for key in shard.blocks]
    return index.blocks if index.adds_up and sorted(named) == sorted(index.blocks) else named


def _read(path: Path, index: _Index, tokenizer: Any) -> HeadActivations | HeadMoments:
    return _captured(path, index, [_checked(path, shard) for shard in index.shards], tokenizer)


def _captured(path: Path, index: _Index, readings: Sequence[Reading], tokenizer: Any) -> HeadActivations | HeadMoments:
    """What an index and the content of its shards come to; a shard of which all samples were skipped is empty."""
    whole = joined([reading for reading in readings if reading], add=index.adds_up)
    weights = {
        name: {**entry.model_dump(exclude_none=True), "file": _weights_file(path, entry.file)}
        for name, entry in index.weights.items()
    }
    held = FileWeights(weights)
    for file in {Path(entry["file"]) for entry in weights.values()}:
        checked_here(file, FileWeights({name: entry for name, entry in weights.items() if Path(entry["file"]) == file}).check)
    return as_captured(
        {name: whole[name] for name in sorted(whole, key=_layer_of)},
        rows=_LaterRows(index.layers, lambda: rows_by_layer([_checked(path, shard) for shard in index.rows])),
        numbers=_numbers(index),
        positions=index.about["positions"],
        weights=held,
        tokenizer=tokenizer,
        model=index.model,
        about={**index.about, "skipped": index.skipped},
    )


def _numbers(index: _Index) -> list[tuple[int, int]]:
    """The numbers of the samples whose rows are kept, and of their draw."""
    kept = {key: block for shard in index.shards for key, block in shard.blocks.items()}
    starts = dict(zip(index.blocks, accumulate((kept[key].n for key in index.blocks), initial=0), strict=False))
    return [
        (starts[key] + place, rank) for shard in index.rows for key, block in shard.blocks.items() for place, rank in block.kept
    ]


def _rows_file(key: str) -> str:
    return f"rows-{key}.safetensors"


def _checked(path: Path, shard: _Shard) -> Reading:
    """A shard's content, which is what the index says."""
    _check(path, shard)
    reading = _load(path / shard.file)
    if _rows(reading) != shard.rows:
        raise HeadPursuitError(f"{path / shard.file} has other rows than {INDEX} says: {_AGAIN}")
    return reading


def _load(path: Path) -> Reading:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise HeadPursuitError(f"{path} cannot be read ({error}): {_AGAIN}") from error


def _check(path: Path, entry: _Entry) -> None:
    def check() -> None:
        if file_hash(path / entry.file) != entry.sha256:
            raise HeadPursuitError(f"{path / entry.file} is not as it was written, it was changed or damaged: {_AGAIN}")

    checked_here(path / entry.file, check)


def _rows(reading: Reading) -> int:
    if not reading:
        return 0
    return int(reading[COUNT]) if COUNT in reading else len(next(iter(reading.values())))


def _layer_of(name: str) -> int:
    # safetensors sorts names as text, which puts L10 before L2.
    return -1 if name == COUNT else int(name[1:].split(".")[0])


def _weights_file(folder: Path, name: str) -> Path:
    # The checkpoint's own shards lie elsewhere by design and are named in full; safetensors cannot run code.
    if Path(name).is_absolute():
        return Path(name)
    return inside(folder, name, what="file of weights", where=str(folder / INDEX))
