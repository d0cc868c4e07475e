"""One call for the engineer: ``hp.suppress`` and ``hp.enhance``."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headpursuit.concepts import as_concept
from headpursuit.concepts.concept import ConceptLike
from headpursuit.concepts.counting import count_words
from headpursuit.errors import HeadPursuitError, check_choice
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.evaluate import check_folder
from headpursuit.evaluation.recipe import plain
from headpursuit.exporting.export import FORMATS, Export, Format, export, require_exportable
from headpursuit.exporting.projections import ExportSource
from headpursuit.exporting.provenance import CARD, write_card
from headpursuit.exporting.verify import Verification, verify
from headpursuit.files import locked
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.samples import Samples, as_samples
from headpursuit.ranking.methods import CONTEST
from headpursuit.report.tables import tables
from headpursuit.steering.push import check_push, upload
from headpursuit.steering.written import written_samples
from headpursuit.tuning.splits import TuningData
from headpursuit.tuning.tune import Options, Tuned, check_wishes, read_data, recipe_name, run_tuning

TUNING, WRITTEN = "tuning", "written"
_TEXTS = 4


@dataclass(frozen=True)
class SideBySide:
    """What the model writes on one test sample, unedited and edited."""

    prompt: str
    unedited: str
    edited: str


@dataclass(frozen=True)
class Steered:
    """An edited model, and what is known of the edit.

    Attributes:
        tuned: the edit with its effects, its cost and its controls on the test split.
        texts: texts of test samples, unedited and edited; those first that speak of the concept.
        written: how many samples the model wrote itself; 0 where samples were given.
        export: what was written, None where nothing was to be.
        verification: the proof that it does the same as the edit.
        pushed: address of the repository that it was uploaded to, or None.
    """

    tuned: Tuned
    texts: tuple[SideBySide, ...] = field(repr=False)
    written: int = 0
    export: Export | None = None
    verification: Verification | None = None
    pushed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        done, proof = self.export, self.verification
        return {
            **self.tuned.results.to_dict(),
            "edit": self.tuned.edit.to_dict(),
            "change": list(self.tuned.change),
            "misses": list(self.tuned.misses),
            "texts": [asdict(one) for one in self.texts],
            "written": self.written,
            "export": None if done is None else {"folder": str(done.folder), "format": done.format, "changed": done.changed},
            "verified": None if proof is None else str(proof),
            "pushed": self.pushed,
        }


def suppress(
    model: ModelLike,
    concept: ConceptLike,
    *,
    samples: Samples | None = None,
    out: str | Path | None = None,
    to: Format | None = None,
    cost: float | None = None,
    neutral: Samples | None = None,
    push: str | None = None,
    public: bool = False,
    k: int = 8,
    trials: int = 16,
    limit: int = 48,
    seed: int = 0,
    progress: bool = True,
    rises: bool = False,
) -> Steered:
    """Make a model speak of a concept less: heads are chosen and scaled under a limit of cost, measured, exported and verified.

    Heads are put in order by the contest (:func:`headpursuit.select`), scales are tuned (:func:`headpursuit.tune`) on one half
    of the samples, and everything that is reported comes from the other half.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        concept: the words.
        samples: prompts on which the model speaks of the concept. Left out, the demo has its own, and any other model writes
            some itself (:func:`headpursuit.steering.written.written_samples`).
        out: folder for all of it, ``out/tuning`` for the search, which goes on there where it was cut off, and ``out/TO`` for
            the export. Left out, nothing is written.
        to: ``checkpoint``, ``lora``, ``ia3`` or ``gguf``, see :func:`headpursuit.export`; by default ``gguf`` for a GGUF file,
            else ``checkpoint``.
        cost: the largest divergence from the unedited model on neutral texts, in nats a token; 0.1 when left out. (On the
            demo's own data: the largest rise of their negative log-likelihood, 0.05.)
        neutral: neutral texts beside given samples; by default packaged sentences.
        push: upload the export to the Hub under this name, with effects, controls and cost in its model card.
        public: make a new repository public.
        k: most heads.
        trials: edits to try.
        limit: samples a task and half at most.
        seed: seed of whatever is drawn.
        progress: show progress bars.
        rises: the other way: what :func:`headpursuit.enhance` does.

    Raises:
        HeadPursuitError: no edit surely lowers the concept on the test half within what was tried, so that none is written; as
            the functions named above.
        MissingExtraError: optuna is not installed.
    """
    words, options = as_concept(concept), Options(trials=trials, k=k, methods=(CONTEST,))
    limits = None if cost is None else {"neutral": cost}
    check_wishes(reach=None, positions=None, limits=limits, limit=limit, seed=seed)
    if to is not None:
        check_choice(FORMATS, to=to)
    if push is not None and out is None:
        raise HeadPursuitError(f"push={push!r}: give out, the folder that is uploaded")
    if out is not None:
        _check_out(Path(out), recipe_name(words.name))
    if push is not None:
        check_push(push)
    given = None if samples is None else as_samples(samples)
    model = as_model(model)
    form = to or ("checkpoint" if model.source.gguf is None else "gguf")
    source = None if out is None else require_exportable(model, format=form)
    common: dict[str, Any] = {"seed": seed, "progress": progress}
    with TemporaryDirectory() if out is None else nullcontext(out) as kept, locked(Path(kept)):
        folder, written = Path(kept), 0
        if given is None and model.source.id != "demo":
            given = written_samples(model, words, folder=folder / WRITTEN, **common)
            written = len(given)
        data = read_data(model, given, words, neutral=neutral, limits=limits, enhance=rises, limit=limit, seed=seed)
        check_folder(folder / TUNING, recipe_name(words.name), settings=_settings(data, options))
        tuned = run_tuning(model, data, options, out=folder / TUNING, **common)
        tuned.save(folder / TUNING)
        tuned.check_moved()
        cells = Cells(model, data.test, seed=seed, folder=folder / TUNING / "cells")
        found = Steered(tuned, side_by_side(cells, data, tuned), written)
        if source is None:
            return found
        done = _exported(model, found, folder / form, source=source, progress=progress)
    # Code that came with the checkpoint runs already.
    trusted = type(model.hf).__module__.startswith("transformers_modules")
    proof = verify(done.folder, device=model.device, trust_remote_code=trusted, progress=progress)
    if not proof.ok:
        raise HeadPursuitError(f"{done.folder} is not the edit that it says it is: {proof}")
    pushed = None if push is None else upload(folder / form, push, public=public)
    return replace(found, export=done, verification=proof, pushed=pushed)


def enhance(model: ModelLike, concept: ConceptLike, **options: Any) -> Steered:
    """Make a model speak of a concept more: as :func:`suppress`, with scales above 1.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        concept: the words.
        **options: those of :func:`suppress`.

    Raises:
        HeadPursuitError: no edit surely raises the concept on the test half, and as there.
    """
    return suppress(model, concept, rises=True, **options)


def _check_out(folder: Path, recipe: str) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    if names - {TUNING, WRITTEN, *FORMATS} or folder.is_file():
        raise HeadPursuitError(
            f"{folder} holds something else: choose a new folder, or one of an earlier run for the same words"
        )
    check_folder(folder / TUNING, recipe)


def _settings(data: TuningData, options: Options) -> dict[str, Any]:
    """What results of tuning must say of themselves to be those that are asked for."""
    limits = {one.metric.name: one.at_most for one in data.goal.limits}
    splits = {
        split: {name: task.depends_on for name, task in tasks.items()}
        for split, tasks in (("tuning", data.tuning), ("test", data.test))
    }
    return plain({"rises": data.goal.rises, "limits": limits, "trials": options.trials, "k": options.k, **splits})


def side_by_side(cells: Cells, data: TuningData, tuned: Tuned) -> tuple[SideBySide, ...]:
    """A few test samples' texts, those first in which the concept is spoken of."""
    task = data.goal.target.task
    answers = zip(cells.answers(task, None), cells.answers(task, tuned.edit), strict=True)
    texts = [
        SideBySide(f"{'' if sample.image is None else '[image] '}{sample.text}", unedited.strip(), edited.strip())
        for sample, (unedited, edited) in zip(data.test[task].samples, answers, strict=True)
    ]
    words = data.concept.words
    return tuple(
        sorted(texts, key=lambda one: not (count_words(one.unedited, words) or count_words(one.edited, words)))[:_TEXTS]
    )


def _exported(model: HeadModel, found: Steered, folder: Path, *, source: ExportSource, progress: bool) -> Export:
    edit, form, about = found.tuned.edit, folder.name, card_section(found)
    if form != "gguf":
        return export(model, edit, folder, format=form, about=about, progress=progress)  # type: ignore[arg-type]
    done = export(model, edit, folder / "model.gguf", format="gguf", progress=progress)
    (folder / CARD).unlink(missing_ok=True)
    write_card(folder, source, edit, format="gguf", about=about)
    return done


def card_section(found: Steered) -> str:
    """What a model card says of an edit beside what it is: effects, cost and controls, and how they were found."""
    results, goal = found.tuned.results, found.tuned.goal
    used = {one.use: one for one in results.data if one.name == goal.target.task}
    by = "texts that the model wrote itself" if found.written else "samples"
    return (
        f"## What the edit does\n\nIt is to {'enhance' if goal.rises else 'suppress'} *{goal.concept}*. Heads and scales were "
        f"chosen on {used['selection'].n} {by}; all numbers are from {used['test'].n} others. An effect is a share of the "
        f"unedited model's value, or a change where the table says so; random heads are {results.draws} draws of as many heads "
        f"in each layer, with the same scales.\n\n{tables(found.tuned)[0].to_markdown()}"
    )
