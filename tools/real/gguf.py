"""The part on GGUF: edits exported to files of every kind, as llama.cpp runs them and as the hooked model does.

llama.cpp rounds what enters a product with a quantised matrix to 8 bits (to 16 for F16 and BF16), so that its logits differ
from transformers' on a file that nobody edited. An export is right where its tensors are, and where that difference does not
grow.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tools.parts import table
from tools.real.data import read_questions, read_stories
from tqdm.auto import tqdm

import headpursuit as hp
from headpursuit.drawing import save_figure
from headpursuit.drawing.figure import new_figure
from headpursuit.drawing.style import COLOURS, INK, QUIET, Figure, figure_of, quieten, set_labels, set_title, signed
from headpursuit.evaluation.intervals import interval, resampled_means
from headpursuit.exporting.llama_cpp import llama_cpp, llama_logits, opened_by_llama_cpp
from headpursuit.exporting.provenance import read_record
from headpursuit.exporting.verify import compare_gguf
from headpursuit.files import digest, file_hash, read_sealed, write_sealed
from headpursuit.model.gguf_files import ggml, gguf_header
from headpursuit.model.gguf_joining import write_replaced

PLAIN = ("F32", "F16", "BF16")
KINDS = (*PLAIN, "Q8_0", "Q6_K", "Q4_0")
OWN = "the file itself"
UNEDITED = "unedited"
# The last is no scale of any block, so that its layer's tensor becomes F32.
SCALES: Mapping[str, tuple[float, ...]] = {"flip": (-1,) * 4, "silence": (0,) * 4, "mixed": (-1, 0.5, 0, 0.3)}
_TEXTS, _CHARACTERS, _BEGINNING, _NEW = 4, 200, 60, 12


@dataclass(frozen=True)
class Cell:
    """One file under one edit.

    Attributes:
        kind: ggml's type of its matrices.
        edit: a name of ``SCALES``, or unedited.
        stored: each edited tensor's type before and after.
        surprises: what the export's tensors and bytes should not be; empty when all are right.
        relative: difference of llama.cpp's logits from the model's, over the latter's norm, a list a text, a number a token.
        margins: difference of the distance between the model's two likeliest tokens, in logits; likewise.
        same: share of tokens behind which both find the same token likeliest.
        apart: for each prompt the distance in the model between its choice and llama.cpp's where their texts part, in logits;
            None where they do not.
    """

    kind: str
    edit: str
    stored: tuple[tuple[str, str], ...]
    surprises: tuple[str, ...]
    relative: tuple[tuple[float, ...], ...]
    margins: tuple[tuple[float, ...], ...]
    same: float
    apart: tuple[float | None, ...]


def measured(source: Path, data: Path, out: Path) -> tuple[list[Cell], dict[str, float]]:
    """Every cell, and how far each edit takes the model's logits from its own; what was measured before is found in ``out``.

    Files are made there, and removed again.
    """
    texts = [one[:_CHARACTERS] for one in read_stories(data)[-_TEXTS:]]
    texts += [f"Question: {one}\nAnswer:" for one in read_questions(data)[-_TEXTS:]]
    about = {"file": file_hash(source), "texts": digest(texts), "new": _NEW, "llama_cpp": llama_cpp().__version__}
    own = next(one.dtype for one in gguf_header(source).tensors if one.key.endswith("attn_output.weight"))
    wanted = [(kind, edit) for kind in (*KINDS, OWN) for edit in (UNEDITED, *SCALES)]
    keys = {one: digest(about | {"kind": one[0], "edit": [one[1], SCALES.get(one[1])]}) for one in wanted}
    paths = {one: out / "gguf" / f"{key}.json" for one, key in keys.items()}
    missing = [one for one in wanted if not paths[one].is_file()]
    out.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(missing), desc="GGUF", unit="cell", disable=not missing)
    with bar, tempfile.TemporaryDirectory(dir=out) as made:
        for kind in dict.fromkeys(kind for kind, _ in missing):
            file = source if kind == OWN else _made(kind, source, Path(made))
            model = hp.load(file, device="cpu")
            for edit in [edit for one, edit in missing if one == kind]:
                bar.set_postfix_str(f"{kind}, {edit}")
                cell = _cell(f"{own} ({OWN})" if kind == OWN else kind, edit, model, file, texts)
                write_sealed(paths[kind, edit], {"format": 1, "about": about, **asdict(cell)})
                bar.update()
            del model
            if kind not in (OWN, PLAIN[0]):
                file.unlink()
    taken = out / "gguf" / f"{digest(about | {'taken': [list(one) for one in SCALES.values()]})}.json"
    if not taken.is_file():
        write_sealed(taken, {"format": 1, "about": about, "taken": _taken(hp.load(source, device="cpu"), texts)})
    return [_read(paths[one]) for one in wanted], _sealed(taken)["taken"]


def _sealed(path: Path) -> dict[str, Any]:
    return read_sealed(path, format=1, what="measurement", remedy="delete it")


def _read(path: Path) -> Cell:
    content = _sealed(path)
    return Cell(**{name: _tuples(content[name]) for name in Cell.__dataclass_fields__})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _made(kind: str, source: Path, folder: Path) -> Path:
    """The model with all its matrices in a type: dequantised by ggml's own Python package, quantised by llama.cpp."""
    out, plain = folder / f"{kind}.gguf", PLAIN[0]
    if kind in PLAIN:
        file, number, quantised = gguf_header(source), ggml().GGMLQuantizationType[kind], ggml().quants.quantize
        matrices = [one for one in file.tensors if len(one.shape) > 1]
        write_replaced(file, out, {one.key: (kind, quantised(one.read().numpy(), number).tobytes()) for one in matrices})
        return out
    wide = folder / f"{plain}.gguf"
    if not wide.is_file():
        _made(plain, source, folder)
    package: Any = llama_cpp()
    options = package.llama_model_quantize_default_params()
    options.ftype, options.nthread = getattr(package, f"LLAMA_FTYPE_MOSTLY_{kind}"), 1
    if package.llama_model_quantize(str(wide).encode(), str(out).encode(), ctypes.byref(options)):
        raise SystemExit(f"llama.cpp could not quantise {wide} to {kind}")
    return out


def heads(model: hp.HeadModel) -> list[hp.Head]:
    """The second head of the last layer in each fourth of the layers."""
    layers = [model.anatomy.n_layers * part // 4 - 1 for part in (1, 2, 3, 4)]
    return [[one for one in model.anatomy.heads() if one.layer == layer][:2][-1] for layer in layers]


def _cell(kind: str, edit: str, model: hp.HeadModel, file: Path, texts: Sequence[str]) -> Cell:
    beginnings = [*(text[:_BEGINNING] for text in texts[:_TEXTS]), *texts[_TEXTS:]]
    rows, prompts = ([model.tokenizer(one)["input_ids"] for one in each] for each in (texts, beginnings))
    if edit == UNEDITED:
        return Cell(kind, edit, (), (), **_beside(model, file, rows, prompts))
    scaled = hp.HeadEdit(heads(model), scale=SCALES[edit])
    with tempfile.TemporaryDirectory(dir=file.parent) as made:
        export = hp.export(model, scaled, Path(made) / "edited.gguf", progress=False)
        differing, surprises = compare_gguf(model, export.folder, read_record(export.folder))
        unchanged = [f"{one.key} is not changed" for one in export.stored if one.key not in differing]
        with scaled.applied(model):
            found = _beside(model, export.folder, rows, prompts)
    return Cell(kind, edit, tuple((one.was, one.now) for one in export.stored), (*surprises, *unchanged), **found)


def _beside(model: hp.HeadModel, file: Path, rows: Sequence[list[int]], prompts: Sequence[list[int]]) -> dict[str, Any]:
    """llama.cpp on a file beside a model: along given texts, and where the texts part that it writes."""
    relative, margins, same = [], [], []
    for row, theirs in zip(rows, llama_logits(file, rows), strict=True):
        ours = _logits(model, row)
        relative.append(tuple(((ours - theirs).norm(dim=1) / ours.norm(dim=1)).tolist()))
        two = ours.topk(2, dim=1).indices
        distances = [one.gather(1, two).diff(dim=1)[:, 0] for one in (ours, theirs)]
        margins.append(tuple((distances[0] - distances[1]).abs().tolist()))
        same += (ours.argmax(1) == theirs.argmax(1)).tolist()
    apart = []
    for prompt, written in zip(prompts, _written(file, prompts, model.tokenizer.eos_token_id), strict=True):
        ours = _logits(model, [*prompt, *written])[len(prompt) - 1 : -1]
        behind = ours.max(dim=1).values - ours.gather(1, torch.tensor(written)[:, None])[:, 0]
        apart.append(next((float(one) for one in behind if one > 0), None))
    return {"relative": tuple(relative), "margins": tuple(margins), "same": float(np.mean(same)), "apart": tuple(apart)}


def _taken(model: hp.HeadModel, texts: Sequence[str]) -> dict[str, float]:
    """Relative difference of the model's logits under each edit from those without one, the mean over tokens."""
    rows = [model.tokenizer(text)["input_ids"] for text in texts]
    plain, found = [_logits(model, row) for row in rows], {}
    for edit, scales in SCALES.items():
        with hp.HeadEdit(heads(model), scale=scales).applied(model):
            pairs = [(ours, _logits(model, row)) for ours, row in zip(plain, rows, strict=True)]
        found[edit] = float(np.mean([float(((one - other).norm(dim=1) / other.norm(dim=1)).mean()) for one, other in pairs]))
    return found


def _logits(model: hp.HeadModel, row: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(torch.tensor([row])).logits[0]


def _written(file: Path, prompts: Sequence[list[int]], end: int) -> Iterator[list[int]]:
    """The tokens that llama.cpp finds likeliest, one after the other."""
    with closing(opened_by_llama_cpp(file, context=max(map(len, prompts)) + _NEW)) as model:
        for prompt in prompts:
            model.reset()
            found = list(islice(model.generate(prompt, temp=0.0, repeat_penalty=1.0), _NEW))
            yield found[: found.index(end) + 1] if end in found else found


def section(cells: Sequence[Cell], taken: Mapping[str, float], images: Path, *, name: str) -> str:
    """The part of the page."""
    by_kind = {kind: {one.edit: one for one in cells if one.kind == kind} for kind in dict.fromkeys(one.kind for one in cells)}
    lines, judged, parted = [], [], []
    for kind, own in by_kind.items():
        unedited = own[UNEDITED]
        bound = max(max(one) for one in unedited.margins)
        for edit, cell in own.items():
            ratio, verdict = _growth(unedited, cell)
            apart = [one for one in cell.apart if one is not None]
            parted += [(kind, edit, one <= bound) for one in apart]
            if edit != UNEDITED:
                judged.append((kind, edit, verdict))
            types = [f"{was} → {now}" if was != now else now for was, now in cell.stored]
            lines.append(
                {
                    "file": kind,
                    "edit": edit,
                    "edited tensors": ", ".join(f"{types.count(one)} {one}" for one in dict.fromkeys(types)) or "—",
                    "difference of logits": f"{_mean(cell):.1e}",
                    "beside unedited": "" if edit == UNEDITED else ratio,
                    "same likeliest token": f"{100 * cell.same:.1f} %",
                    "texts equal": f"{len(cell.apart) - len(apart)} of {len(cell.apart)}",
                    "distance where they part": f"at most {max(apart):.2g}, of {bound:.2g}" if apart else "—",
                }
            )
    exports = [one for one in cells if one.edit != UNEDITED]
    save_figure(_figure(by_kind), images / "gguf.png")
    tokens = sum(map(len, cells[0].relative))
    named = ", ".join(map(signed, SCALES["mixed"]))
    what = (
        f"The matrices of {name}, dequantised and stored in each type (by ggml's Python package and llama.cpp's own "
        "quantiser; a matrix whose rows are no multiple of a type's block gets another type there), and the file as it is. "
        f"{len(exports[0].stored)} heads, one in the last layer of each fourth of the layers, are flipped (× −1), silenced "
        "(× 0) or scaled by "
        f"{named}. Each export is run by llama.cpp (llama-cpp-python, on the CPU) beside the hooked model on "
        f"{len(cells[0].relative)} texts ({tokens} tokens), and writes up to {_NEW} tokens behind {len(cells[0].apart)} "
        "beginnings, greedily."
    )
    how = (
        "The difference of logits is relative, in the norm, the mean over tokens; beside it stands its ratio to that of the "
        "file without an edit (interval of a paired bootstrap over texts, 95 %). Texts are equal where the model's likeliest "
        "token is llama.cpp's all along. Where they part, the model's distance between the two tokens, in logits, stands "
        "beside the most by which llama.cpp moves the distance of the model's two likeliest tokens on the unedited file."
    )
    picture = "![Difference of llama.cpp's logits from the model's](images/real/gguf.png)"
    found = "\n".join(f"- {one}" for one in (*_sentences(by_kind, exports, judged, parted), _far(taken)))
    return "\n\n".join(["## GGUF files in llama.cpp", what, how, found, picture, table(pd.DataFrame(lines))])


def _mean(cell: Cell) -> float:
    return float(np.mean([np.mean(one) for one in cell.relative]))


def _growth(unedited: Cell, cell: Cell) -> tuple[str, str]:
    """How many times as large the difference is as without an edit, with its interval; and what that says."""
    means = resampled_means(np.array([[np.mean(one) for one in each.relative] for each in (unedited, cell)]))
    low, high = interval(means[:, 1] / means[:, 0]) or (np.nan, np.nan)
    verdict = "smaller" if high < 1 else "larger" if low > 1 else "not told apart from it"
    return f"{_mean(cell) / _mean(unedited):.2f} ({low:.2f} to {high:.2f})", verdict


def _sentences(
    by_kind: Mapping[str, Mapping[str, Cell]],
    exports: Sequence[Cell],
    judged: Sequence[tuple[str, str, str]],
    parted: Sequence[tuple[str, str, bool]],
) -> Iterator[str]:
    right = sum(not one.surprises for one in exports)
    kept = [was == now for one in exports for was, now in one.stored]
    yield (
        f"**Tensors.** In {right} of {len(exports)} exports every tensor beside the edited ones is the original's byte for "
        "byte, and every edited one is the original's times the scales, number by number; "
        f"{sum(kept)} of {len(kept)} edited tensors kept their type, the others became F32."
    )
    equal = {kind: [sum(one is None for one in cell.apart) for cell in own.values()] for kind, own in by_kind.items()}
    n = len(exports[0].apart)
    whole = [kind for kind, counts in equal.items() if set(counts) == {n}]
    near = sum(inside for _, _, inside in parted)
    yield (
        f"**Texts.** Word for word the same, unedited and under every edit: {', '.join(whole) or 'no file'}. Over all files "
        f"{sum(map(sum, equal.values()))} of {n * sum(map(len, equal.values()))} are the same; of the {len(parted)} that part, "
        f"{near} do so where the model's two tokens are nearer than the most by which llama.cpp moves such a distance on the "
        f"unedited file, {len(parted) - near} elsewhere."
    )
    told: dict[str, list[str]] = {}
    for kind, edit, verdict in judged:
        told.setdefault(verdict, []).append(f"{kind} {edit}")
    found = "; ".join(f"{verdict} in {len(which)} ({', '.join(which)})" for verdict, which in told.items())
    yield f"**Logits.** Of {len(judged)} differences from the hooked model, beside that of the unedited file: {found}."
    wide = by_kind[PLAIN[0]]
    grown = [f"{edit} {_mean(cell) / _mean(wide[UNEDITED]):.2f}" for edit, cell in wide.items() if edit != UNEDITED]
    yield (
        f"{PLAIN[0]} files, in which llama.cpp rounds its cache alone, show what the edits alone do to it, by making the model "
        f"more or less sensitive: {', '.join(grown)} times the unedited file's."
    )


def _far(taken: Mapping[str, float]) -> str:
    far = ", ".join(f"{edit} {100 * one:.0f} %" for edit, one in taken.items())
    return f"The edits take the model's own logits much farther, {far}: a file with another edit, or none, would stand out."


def _figure(by_kind: Mapping[str, Mapping[str, Cell]]) -> Figure:
    """Medians over tokens with the middle 90 %, a line a file."""
    axes = new_figure(width=6.8, height=0.62 * len(by_kind) + 1.1).add_subplot()
    colours = (QUIET, COLOURS["somp"], COLOURS["logit_lens"], COLOURS["attribution"])
    for y, own in enumerate(by_kind.values()):
        for index, (cell, colour) in enumerate(zip(own.values(), colours, strict=True)):
            low, middle, high = np.quantile(np.concatenate(cell.relative), [0.05, 0.5, 0.95])
            at = y + 0.16 * (index - 1.5)
            axes.plot((low, high), (at, at), color=colour, linewidth=2, alpha=0.5, solid_capstyle="round")
            axes.plot(middle, at, "o", color=colour, markersize=5, label=cell.edit if y == 0 else None)
    axes.set_xscale("log")
    axes.set_xticks([1e-3, 1e-2, 1e-1], ["0.1 %", "1 %", "10 %"])
    axes.minorticks_off()
    axes.set_yticks(range(len(by_kind)), list(by_kind))
    axes.set_ylim(len(by_kind) - 0.4, -0.6)
    quieten(axes, grid="x")
    axes.tick_params(axis="y", labelcolor=INK)
    set_labels(axes, x="difference from the model's logits, relative; dots: median over tokens, bars: the middle 90 %")
    set_title(axes, "llama.cpp beside the hooked model")
    axes.legend(frameon=False, fontsize=8, labelcolor=QUIET, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure_of(axes)
