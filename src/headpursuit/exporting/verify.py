"""Verification of an export: it is loaded again and compared with the edit, number by number and byte by byte."""

import filecmp
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.adapters import WEIGHTS, adapter_tensors
from headpursuit.exporting.checkpoint import scaled_weight
from headpursuit.exporting.folder import files_beside
from headpursuit.exporting.llama_cpp import llama_cpp, llama_logits
from headpursuit.exporting.projections import ExportSource, edited_projections, open_source
from headpursuit.exporting.provenance import CARD, RECORD, Record, read_record
from headpursuit.model.checkpoint_files import StoredTensor, checkpoint_files, stored_tensors
from headpursuit.model.gguf_files import GgufFile, gguf_parts
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.identity import require_same_model
from headpursuit.model.load import load, opening, wrap
from headpursuit.model.probing import TOLERANCE
from headpursuit.model.samples import Sample, Samples, as_samples
from headpursuit.model.tokenize import collate, make_prompt
from headpursuit.optional import optional_import

TEXTS = (
    "The capital of France is Paris, and the capital of Japan is",
    "In a shop on the corner, an old man sells three kinds of red apples.",
    "def area(width, height):\n    return",
    "She was so happy that she could not",
)
_BATCH = 4


@dataclass(frozen=True)
class Verification:
    """The result of a comparison of an export with the edit.

    Attributes:
        folder: the export.
        format: ``checkpoint``, ``lora``, ``ia3`` or ``gguf``.
        n: number of samples.
        exact: whether the same bits were to be expected: weights in files with scales that are 0 or ± a power of two.
        bit_equal: whether the logits are the same bits.
        error: relative difference of the logits, in the Frobenius norm.
        tolerance: how much of it rounding explains.
        same_choice: share of tokens behind which the likeliest next token is the same.
        differing: tensors that differ from the original's.
        surprises: what differs, or does not, against what the export says of itself; empty when nothing does.
        llama_cpp: for a GGUF file, where ``llama_cpp`` is installed: relative difference of llama.cpp's logits on the export
            from the hooked model's, and of those on the original from the unedited model's, by which the first is judged; else
            None.
    """

    folder: Path
    format: str
    n: int
    exact: bool
    bit_equal: bool
    error: float
    tolerance: float
    same_choice: float
    differing: tuple[str, ...]
    surprises: tuple[str, ...]
    llama_cpp: tuple[float, float] | None = None

    @property
    def ok(self) -> bool:
        """Whether the export is the edit."""
        return not self.surprises and (self.bit_equal if self.exact else self.error <= self.tolerance) and self._ok_elsewhere

    @property
    def _ok_elsewhere(self) -> bool:
        # llama.cpp rounds what enters a quantised product to 8 bits; an edit may make that count for more, but not for much.
        return self.llama_cpp is None or self.llama_cpp[0] <= max(2 * self.llama_cpp[1], self.tolerance)

    def __str__(self) -> str:
        logits = "the same bits" if self.bit_equal else f"relative difference {self.error:.1e} (allowed {self.tolerance:.0e})"
        as_wanted = "the model is unchanged"
        if self.format in ("checkpoint", "gguf"):
            count = len(self.differing)
            as_wanted = f"{count} tensor{' differs' if count == 1 else 's differ'} from the original, as meant"
        told = f"logits of {self.n} samples: {logits}; {'; '.join(self.surprises) or as_wanted}"
        if self.llama_cpp is None:
            return told
        export, original = self.llama_cpp
        return (
            f"{told}; llama.cpp's logits: relative difference {export:.1e} (on the original from the unedited {original:.1e})"
        )


def verify(
    out: str | Path,
    samples: Samples | None = None,
    *,
    model: str | Path | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Verification:
    """Compare an export with the model that it was made of, edited by hooks.

    Args:
        out: a folder or a GGUF file that :func:`headpursuit.export` wrote.
        samples: what to run, see :func:`headpursuit.model.samples.as_samples`; a few texts when left out.
        model: the unedited model, where it is no longer where the export found it.
        revision: commit, branch or tag on the Hub.
        device: where to run; CUDA when there is one, else the CPU.
        trust_remote_code: run code that comes with the checkpoint.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: it is no export, or the unedited model is not there or is another one.

    >>> _ = hp.export(model, hp.HeadEdit(["L1.H2"], scale=-1), tmp_path / "edited", progress=False)
    >>> found = hp.verify(tmp_path / "edited", progress=False)
    >>> found.ok, found.bit_equal, len(found.differing)
    (True, True, 1)
    """
    out, record = Path(out), read_record(out)
    chosen = as_samples(TEXTS if samples is None else samples)
    options: dict[str, Any] = {"dtype": record.dtype, "device": device, "trust_remote_code": trust_remote_code}
    name, commit = model or _original(record), revision or record.origin["revision"]
    original = load(name, revision=commit, **options)
    require_same_model(out / RECORD, record.origin, original.identity)
    with record.edit.applied(original):
        expected = _logits(original, chosen, "edited original", progress=progress)
    elsewhere = None
    if record.format in ("checkpoint", "gguf"):
        differing, surprises = (_compare if record.format == "checkpoint" else compare_gguf)(original, out, record)
        if record.format == "gguf" and llama_cpp() is not None:
            elsewhere = _in_llama_cpp(original, out, chosen, expected, progress=progress)
        del original  # two models need not fit
        exported = load(out, **options)
    else:
        source = ExportSource(model=original, identity=record.origin, loaded=True, stored=())
        if record.dtype == "auto":  # made of the files' own values, which the model in memory may have rounded
            source = open_source(
                name, origin=record.origin, path=str(out), revision=commit, trust_remote_code=trust_remote_code
            )
        differing, surprises = (), tuple(_wrong_factors(source, out, record))
        exported = _adapted(original, out)
    found = _logits(exported, chosen, "export", progress=progress)
    error, same_choice = _difference(expected, found)
    return Verification(
        folder=out,
        format=record.format,
        n=len(chosen),
        exact=record.format in ("checkpoint", "gguf") and all(_is_exact(factor.scale) for factor in record.edit.factors),
        bit_equal=all(map(torch.equal, expected, found)),
        error=error,
        tolerance=TOLERANCE.get(exported.hf.dtype, 1e-5),
        same_choice=same_choice,
        differing=differing,
        surprises=(*surprises, *(f"{name} is not as it was written" for name in record.damaged(out))),
        llama_cpp=elsewhere,
    )


def _original(record: Record) -> str:
    if record.folder is not None and Path(record.folder).exists():
        return record.folder
    name = str(record.origin["id"])
    if Path(name).is_absolute():
        raise HeadPursuitError(f"the model that was exported is no longer in {record.folder}: say where it is (--model)")
    return name


def _logits(model: HeadModel, samples: Sequence[Sample], what: str, *, progress: bool) -> list[Tensor]:
    """Logits behind every token of every sample, each ``(t, v)``."""
    found = []
    with torch.no_grad(), evaluating(model.hf):
        for first in tqdm(range(0, len(samples), _BATCH), desc=what, unit="batch", disable=not progress, leave=False):
            prompts = [make_prompt(model, sample) for sample in samples[first : first + _BATCH]]
            batch = collate(model, prompts, side="right")
            logits = model.hf(**batch.inputs).logits
            found += [row[real].cpu() for row, real in zip(logits, batch.real, strict=True)]
    return found


def _in_llama_cpp(
    original: HeadModel, out: Path, samples: Sequence[Sample], expected: Sequence[Tensor], *, progress: bool
) -> tuple[float, float]:
    """Relative differences of llama.cpp's logits, see :class:`Verification`."""
    batches = (collate(original, [make_prompt(original, sample)], side="right") for sample in samples)
    rows = [batch.inputs["input_ids"][0].tolist() for batch in batches]
    plain = _logits(original, samples, "original", progress=progress)
    export = _difference(expected, llama_logits(out, rows))[0]
    return export, _difference(plain, llama_logits(cast("Path", original.source.gguf), rows))[0]


def _adapted(original: HeadModel, out: Path) -> HeadModel:
    peft = optional_import("peft", extra="peft", purpose="loading an adapter")
    with opening(out, what="adapter"):
        adapted: Any = peft.PeftModel.from_pretrained(cast("torch.nn.Module", original.hf), str(out))
    return wrap(adapted.eval(), original.processor)


def _wrong_factors(source: ExportSource, out: Path, record: Record) -> Iterator[str]:
    """Tensors of an adapter that are not what the edit makes of the original."""
    wanted = adapter_tensors(edited_projections(record.edit, source), format=record.format)
    found = {one.key: one for one in stored_tensors([out / WEIGHTS])}
    yield from (f"{key} should not be there" for key in sorted(found.keys() - wanted.keys()))
    for key, tensor in wanted.items():
        if key not in found:
            yield f"{key} is missing"
            continue
        own = found[key].read()
        # What a packed projection computes is measured, which rounds.
        close = source.quantised and own.shape == tensor.shape and torch.allclose(own, tensor, rtol=1e-3, atol=1e-5)
        if not ((own.dtype == tensor.dtype and torch.equal(own, tensor)) or close):
            yield f"{key} is not what the edit makes of the original"


def _difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> tuple[float, float]:
    """Relative difference in the Frobenius norm, and the share of tokens with the same likeliest next one."""
    one, other = torch.cat(list(expected)).double(), torch.cat(list(found)).double()
    same = (one.argmax(-1) == other.argmax(-1)).double().mean()
    return float((one - other).norm() / one.norm()), float(same)


def _compare(original: HeadModel, out: Path, record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that differ, and what is not as the edit makes it."""
    folder = original.source.folder
    if folder is None:
        return (), (f"the files of {original.source.id} are not on this machine",)
    source = ExportSource(model=original, identity=record.origin, loaded=True, stored=stored_tensors(checkpoint_files(folder)))
    edited = {one.stored.key: one for one in edited_projections(record.edit, source) if one.stored is not None}
    before = {one.key: one for one in source.stored}
    after = {one.key: one for one in stored_tensors(checkpoint_files(out))}
    differing = []
    surprises = [f"{key} is in one of them only" for key in sorted(before.keys() ^ after.keys())]
    for key in sorted(before.keys() & after.keys()):
        one, other = before[key], after[key]
        if (one.file.name, one.dtype, one.shape) != (other.file.name, other.dtype, other.shape):
            surprises.append(f"{key} is stored in another way")
            continue
        if not np.array_equal(_bytes(one), _bytes(other)):
            differing.append(key)
        if key in edited:
            wanted = scaled_weight(one.read(), edited[key].columns, input_first=edited[key].input_first)
            if not torch.equal(other.read(), wanted):
                surprises.append(f"{key} is not the original's, scaled")
        elif key in differing:
            surprises.append(f"{key} differs and should not")
    for path in files_beside(folder, checkpoint_files(folder))[0]:
        own = str(path) in (CARD, RECORD)
        if not own and not ((out / path).is_file() and filecmp.cmp(folder / path, out / path, shallow=False)):
            surprises.append(f"{path} differs")
    return tuple(differing), tuple(surprises)


def compare_gguf(original: HeadModel, out: Path, record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that differ, and what is not as the edit makes it."""
    source = ExportSource(model=original, identity=record.origin, loaded=True, stored=original.source.stored())
    edited = {one.stored.key: one for one in edited_projections(record.edit, source) if one.stored is not None}
    before, after = gguf_parts(cast("Path", original.source.gguf)), gguf_parts(out)
    if [[one.key for one in part.tensors] for part in before] != [[one.key for one in part.tensors] for part in after]:
        return (), ("it holds other tensors than the original, or in another order",)
    differing, surprises = [], []
    for old, new in zip(before, after, strict=True):
        if _opening(old) != _opening(new):
            surprises.append(f"{new.path.name} has other keys than {old.path.name}")
        for one, other in zip(old.tensors, new.tensors, strict=True):
            same = one.dtype == other.dtype and np.array_equal(_bytes(one), _bytes(other))
            differing += [] if same else [one.key]
            if one.key not in edited:
                surprises += [] if same else [f"{one.key} differs and should not"]
            elif one.shape != other.shape or not torch.equal(
                other.read(), scaled_weight(one.read(), edited[one.key].columns, input_first=edited[one.key].input_first)
            ):
                surprises.append(f"{one.key} is not the original's, scaled")
    return tuple(differing), tuple(surprises)


def _opening(file: GgufFile) -> bytes:
    with file.path.open("rb") as opened:
        return opened.read(file.entries)


def _bytes(stored: StoredTensor) -> np.ndarray:
    if stored.begin == stored.end:
        return np.zeros(0, np.uint8)
    return np.memmap(stored.file, np.uint8, "r", offset=stored.begin, shape=(stored.end - stored.begin,))


def _is_exact(scale: float) -> bool:
    return scale == 0 or abs(math.frexp(scale)[0]) == 0.5
