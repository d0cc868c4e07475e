"""Results of an evaluation: one row a number, with its control's spread, its sample count and its seed beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, field_validator

from headpursuit.drawing import Figure
from headpursuit.editing.where import ALL
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.curves import Curve, frontier, standings
from headpursuit.evaluation.metrics import Metric
from headpursuit.files import checked, csv_text, digest, drafted, file_hash, inside, read_sealed, write_sealed, write_text
from headpursuit.model.heads import Head
from headpursuit.ranking.describe import Descriptions, HeadDescription
from headpursuit.ranking.methods import SELECTIONS, Selection
from headpursuit.ranking.ranking import HeadRanking

RESULTS = "results.json"
FORMAT = 4

_DESCRIBED_SHOWN = 16
_AGAIN = "run the same evaluation again"


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        task: what the model was asked to do.
        concept: whose heads were edited.
        selection: how they were chosen; ``none`` is the unedited model, ``tuned`` an edit that was searched for.
        k: number of edited heads.
        scale: what their contribution was multiplied by; where each head has its own, the one furthest from 1, as it would be
            for a head that says the concept.
        metric: what was measured.
        value: the mean over samples; for ``random`` the median of that over the draws.
        normalized: ``value`` divided by the unedited model's on the same samples; None where that is 0 or says nothing.
        q25: lower quartile of ``effect`` over random draws, else None.
        q75: upper quartile.
        n: number of samples.
        seed: seed of sampling and draws.
        change: ``value`` minus the unedited model's; what counts where a ratio says nothing (log-probabilities).
        low: lower end of the 95 % interval of ``effect``.
        high: upper end.
        where: the tokens at which the edit held.
    """

    task: str
    concept: str
    selection: Selection
    k: int
    scale: float
    metric: str
    value: float
    normalized: float | None
    q25: float | None
    q75: float | None
    n: int
    seed: int
    change: float | None = None
    low: float | None = None
    high: float | None = None
    where: str = ALL

    @property
    def effect(self) -> float | None:
        """The number that is shown of an edit: relative to the unedited model where that says something, else the change."""
        return self.change if self.normalized is None else self.normalized

    @property
    def spread(self) -> tuple[float, float] | None:
        """The range shown beside it: quartiles over random draws, else the 95 % interval; None where there is none."""
        low, high = (self.q25, self.q75) if self.selection == "random" else (self.low, self.high)
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Comparison:
    """The distance between what one choice of heads did to a metric and what another choice of as many did.

    Attributes:
        task: what the model was asked to do.
        concept: whose heads were edited.
        k: number of edited heads.
        scale: what their contribution was multiplied by.
        metric: what was measured.
        against: the other choice; ``random`` is the median over the draws.
        difference: the value by the recipe's first method, or by tuning, minus the other's, in units of ``normalized``, or of
            ``change``.
        low: lower end of its 95 % interval, paired over samples; None where it cannot be told.
        high: upper end.
        wanted: ``less`` or ``more``, what the metric was meant to become, or ``same`` for what should stay.
        n: number of samples.
        seed: seed of sampling, draws and resampling.
    """

    task: str
    concept: str
    k: int
    scale: float
    metric: str
    against: Selection
    difference: float
    low: float | None
    high: float | None
    wanted: Literal["less", "more", "same"]
    n: int
    seed: int

    @property
    def verdict(self) -> Literal["better", "worse", "open"]:
        """Whether the interval lies on the wanted side of 0, on the other, or around it (always, for what should stay)."""
        if self.low is None or self.high is None or self.wanted == "same" or self.low <= 0 <= self.high:
            return "open"
        return "better" if (self.high < 0) == (self.wanted == "less") else "worse"


@dataclass(frozen=True)
class Kept:
    """Something that an edit should leave alone, and what it left of it.

    Attributes:
        task: the task.
        metric: the metric.
        limit: the loss that is allowed, a share of the unedited value or a change in the metric's own unit.
        effect: what the edit left on the test split, as ``Row.effect``; None where the unedited model scores 0.
        held: whether the loss is within the limit; None where that cannot be told.
    """

    task: str
    metric: str
    limit: float
    effect: float | None
    held: bool | None


@dataclass(frozen=True)
class Verdict:
    """The wish for the edit of one concept's heads, and what came of it on the test split.

    Attributes:
        kind: ``suppress`` or ``enhance``.
        task: the target's task.
        metric: the target.
        scale: the edit's factor.
        k: number of heads, chosen on the selection split.
        wanted: the share of the unedited value that the target should come to.
        effect: the share that it came to; None where the unedited model scores 0, so that there is none.
        held: whether it came so far.
        control: the median of as many random heads, or None.
        control_held: whether random heads left the target within a tenth of the unedited value.
        kept: what should stay.
        best: for a missed target, the k that came furthest, and how far (``(k, effect)``), if another one came further.
        settled: whether k was chosen; if not, it is the smallest, as the unedited model scores 0 on the selection split.
    """

    kind: Literal["suppress", "enhance"]
    task: str
    metric: str
    scale: float
    k: int
    wanted: float
    effect: float | None
    held: bool
    control: float | None = None
    control_held: bool = True
    kept: tuple[Kept, ...] = ()
    best: tuple[int, float] | None = None
    settled: bool = True

    @property
    def reached(self) -> bool:
        """Whether the target was reached and all that should stay stayed."""
        return self.held and all(one.held for one in self.kept)

    @property
    def misses(self) -> tuple[str, ...]:
        """Whatever was not reached, in words."""
        found = []
        if self.effect is None:
            found.append(f"the unedited model scores 0 on {self.metric}, so nothing can be told: use more samples")
        elif not self.held:
            bound = "at most" if self.kind == "suppress" else "at least"
            beyond = "" if self.best is None else f" (k = {self.best[0]} comes to {self.best[1]:.2f})"
            found.append(f"{self.metric} came to {self.effect:.2f}, {bound} {self.wanted:g} was wanted{beyond}")
        for one in self.kept:
            if one.held is None:
                found.append(
                    f"the unedited model scores 0 on {one.metric} of {one.task}, so nothing can be told: use more samples"
                )
            elif not one.held:
                found.append(f"{one.metric} of {one.task} came to {one.effect:.2f}, a loss of {one.limit:g} was allowed")
        if not self.settled:
            found.append(f"k = {self.k} was not chosen: the unedited model scores 0 on the selection samples: use more")
        if not self.control_held and self.control is not None:
            found.append(f"random heads moved {self.metric} too, to {self.control:.2f}")
        return tuple(found)


@dataclass(frozen=True)
class Example:
    """One test sample, unedited and edited.

    Attributes:
        prompt: what the model was asked; may be empty for a bare image.
        before: the unedited model's text.
        after: its text under the suppressing edit, if there was one.
        image: the image of a vision-language sample.
        enhanced: its text under the enhancing edit, if there was one.
        reference: the expected text, if there is one.
    """

    prompt: str
    before: str
    after: str | None = None
    image: Image | None = field(default=None, compare=False)
    enhanced: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class ConceptResult:
    """One concept of an evaluation: its words, where its heads are, and what was wished of an edit of them.

    Attributes:
        name: what rows call it.
        task: the task on whose selection data heads were ranked.
        target: the metric of that task that they should move.
        words: the words that heads were ranked with.
        counted: the words that were counted in answers.
        rankings: by method, that which the goals were asked of first.
        verdicts: of the recipe's goals; empty where it has none.
        examples: test samples before and after.
    """

    name: str
    task: str
    target: str
    words: tuple[str, ...] = field(repr=False)
    counted: tuple[str, ...] = field(repr=False)
    rankings: Mapping[str, HeadRanking] = field(repr=False)
    verdicts: tuple[Verdict, ...] = ()
    examples: tuple[Example, ...] = field(default=(), repr=False)

    @property
    def k(self) -> int | None:
        """The number of heads that the goals settled on; None without goals."""
        return self.verdicts[0].k if self.verdicts else None

    @property
    def method(self) -> Selection | None:
        """How the heads were chosen that the goals were asked of; None for a tuned edit."""
        return next(iter(self.rankings), None)  # type: ignore[arg-type]

    def heads(self, k: int | None = None, *, method: str | None = None) -> tuple[Head, ...]:
        """The best ``k`` heads by a method, the goals' where none is named; as many as the goals settled on when left out.

        Raises:
            HeadPursuitError: no goal settled on a number, or the method is not among the rankings.
        """
        k, method = self.k if k is None else k, method or self.method
        if k is None or method is None or method not in self.rankings:
            raise HeadPursuitError(
                f"{self.name}: give k, and one of the methods {', '.join(self.rankings)}; no goal settled on a number"
            )
        return self.rankings[method].top(k)


@dataclass(frozen=True)
class DataUsed:
    """Some samples that the numbers depend on.

    Attributes:
        use: ``test`` for what is measured on, ``selection`` for what heads are ranked on.
        name: the task's name, or for selection data the concept's.
        n: number of samples.
        fingerprint: see :func:`headpursuit.data.records.data_fingerprint`.
        left_out: selection samples that were test samples too.
        tokens: what the model read of them, see :func:`headpursuit.model.tokenize.token_fingerprint`.
    """

    use: Literal["test", "selection"]
    name: str
    n: int
    fingerprint: str
    left_out: int = 0
    tokens: str = ""


@dataclass(frozen=True, repr=False)
class Results:
    """An evaluation's table, and what is needed to make it again.

    Attributes:
        recipe: name of the recipe.
        title: one line.
        model: whose heads these are, see :attr:`headpursuit.HeadModel.identity`.
        versions: of the software.
        seed: seed of every drawing.
        rows: one a number.
        comparisons: one choice of heads beside the others, for every metric and edit.
        metrics: what was measured: unit, direction, and how it is compared.
        concepts: words, rankings, verdicts and examples, concept by concept.
        curves: ways to choose heads beside each other, for a recipe that compares them.
        descriptions: heads by name, for a recipe that describes; by SOMP first, then by the logit lens.
        data: what was read.
        settings: the recipe, or the options of a search, as plain values.
        draws: random head sets behind each random value.
    """

    recipe: str
    title: str
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int = 0
    rows: tuple[Row, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    metrics: tuple[Metric, ...] = ()
    concepts: tuple[ConceptResult, ...] = ()
    curves: tuple[Curve, ...] = ()
    descriptions: tuple[HeadDescription, ...] = ()
    data: tuple[DataUsed, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    draws: int = 0

    # Equal by value, and so no key of a dictionary: the mappings inside have no hash.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = {"rows": self.rows, "curves": self.curves, "descriptions": self.descriptions}
        what = next((f"{len(part)} {name}" for name, part in parts.items() if part), "no rows")
        named = ", ".join(concept.name for concept in self.concepts)
        return f"Results({self.recipe} on {self.model.get('id')}: {what}{f' of {named}' if named else ''}, seed {self.seed})"

    @property
    def selections(self) -> tuple[Selection, ...]:
        """How heads were chosen, in the order in which it is shown."""
        found = {row.selection for row in self.rows}
        return tuple(selection for selection in SELECTIONS if selection in found)

    def to_frame(self) -> pd.DataFrame:
        """One line a row."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=[column.name for column in fields(Row)])

    def comparisons_frame(self) -> pd.DataFrame:
        """One line a comparison, with its verdict."""
        lines = [{**asdict(one), "verdict": one.verdict} for one in self.comparisons]
        return pd.DataFrame(lines, columns=[*(column.name for column in fields(Comparison)), "verdict"])

    def curves_frame(self) -> pd.DataFrame:
        """One line a point of a curve."""
        told = ("concept", "kind", "method", "unit")
        return pd.DataFrame(
            {**{name: getattr(one, name) for name in told}, **asdict(point)} for one in self.curves for point in one.points
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; images of examples aside."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("recipe", "title", "model", "versions", "seed", "draws", "settings")},
            **{name: [asdict(one) for one in getattr(self, name)] for name in ("rows", "metrics", "data", "curves")},
            "comparisons": [{**asdict(one), "verdict": one.verdict} for one in self.comparisons],
            "concepts": [_concept_to_dict(one) for one in self.concepts],
            "descriptions": [one.to_dict() for one in self.descriptions],
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``results.csv``, ``comparisons.csv`` and the examples' images.

        Returns:
            The path of ``results.json``, which is written last.
        """
        folder = Path(folder)
        content = self.to_dict()
        for concept, stored in zip(self.concepts, content["concepts"], strict=True):
            for number, example in enumerate(concept.examples):
                if example.image is not None:
                    name = f"images/{digest({'concept': concept.name})[:8]}-{number:02d}.png"
                    with drafted(folder / name) as draft:
                        example.image.save(draft, format="PNG")
                    stored["examples"][number]["image"] = {"file": name, "sha256": file_hash(folder / name)}
        write_text(folder / "results.csv", csv_text(self.to_frame(), index=False))
        if self.curves:
            write_text(folder / "curves.csv", csv_text(self.curves_frame(), index=False))
        if self.comparisons:
            write_text(folder / "comparisons.csv", csv_text(self.comparisons_frame(), index=False))
        return write_sealed(folder / RESULTS, content)

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read what :meth:`save` wrote; the path that it returned will do, too.

        Raises:
            HeadPursuitError: the folder holds no results, or some that cannot be read.
        """
        path = Path(folder) if Path(folder).name == RESULTS else Path(folder) / RESULTS
        if not path.is_file():
            raise HeadPursuitError(f"{folder} holds no {RESULTS}: give a folder that `headpursuit evaluate` wrote")
        content = read_sealed(path, format=FORMAT, what="result", remedy=_AGAIN)
        stored = checked(_Stored, content, what=f"{path} holds no results", remedy=_AGAIN)
        return cls(
            **{
                **{name: value for name, value in stored if name not in ("format", "sha256")},
                "concepts": tuple(_concept_from(one, path.parent) for one in stored.concepts),
                "descriptions": tuple(map(HeadDescription.from_dict, stored.descriptions)),
            }
        )

    def plot(self) -> Figure:
        """The targets' effects beside their controls, one line a concept; of a recipe that describes the heads' shares.

        Of a recipe that compares ways to choose heads, what each of them reaches for what it costs.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import effects, reached

        if self.curves:
            panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
            for one in self.curves:
                panels.setdefault(f"{one.kind} {one.concept} ({one.unit})", {})[one.method] = frontier(one)
            return reached(panels, xlabel="divergence on neutral text, nats a token", title=self.title)
        if self.descriptions and not self.rows:
            return self.best_described().plot(title=self.title)
        return effects(self.target_rows(), title=self.title)

    def best_described(self) -> Descriptions:
        """The heads that SOMP's tokens explain best, best first, at most sixteen; those without a name come last."""
        found = [one for one in self.descriptions if one.method == "somp"]
        return Descriptions(tuple(sorted(found, key=lambda one: (one.named is False, -one.share))[:_DESCRIBED_SHOWN]))

    def target_rows(self) -> list[Row]:
        """The edited rows of every concept's own target, at the k that the goals settled on, or else the largest.

        A tuned edit has a number of heads of its own, and stands beside a fixed one all the same.
        """
        found = []
        for concept in self.concepts:
            rows = [row for row in self.rows if (row.concept, row.metric) == (concept.name, concept.target)]
            rows = [row for row in rows if row.selection != "none" and row.task == concept.task]
            k = concept.k or max((row.k for row in rows), default=0)
            tuned = any(row.selection == "tuned" for row in rows)
            found += [row for row in rows if tuned or row.k == k]
        return found

    def _repr_html_(self) -> str:
        rows: list[dict[str, Any]] = [
            {
                "concept": row.concept,
                "metric": f"{row.metric} ({row.task})",
                "heads": f"{row.k} by {row.selection}",
                "α": row.scale,
                "effect": row.effect,
                "from": None if row.spread is None else row.spread[0],
                "to": None if row.spread is None else row.spread[1],
                "n": row.n,
            }
            for row in self.target_rows()
        ]
        if self.curves:
            rows = standings(self.curves)
        if rows:
            return pd.DataFrame(rows).to_html(index=False, float_format="{:.2f}".format)
        return self.best_described()._repr_html_()


def find(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows whose fields have the wanted values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def _concept_to_dict(concept: ConceptResult) -> dict[str, Any]:
    plain = replace(concept, rankings={}, examples=())
    examples = [{**asdict(replace(one, image=None)), "image": None} for one in concept.examples]
    rankings = {method: ranking.to_dict() for method, ranking in concept.rankings.items()}
    return {**asdict(plain), "rankings": rankings, "examples": examples}


class _StoredImage(BaseModel):
    """The file of an example's image, and its hash."""

    model_config = ConfigDict(extra="forbid")
    file: str
    sha256: str


class _StoredExample(BaseModel):
    """An :class:`Example` whose image lies in a file."""

    model_config = ConfigDict(extra="forbid")
    prompt: str
    before: str
    after: str | None
    image: _StoredImage | None
    enhanced: str | None
    reference: str | None


class _StoredConcept(BaseModel):
    """A :class:`ConceptResult`; rankings check themselves."""

    model_config = ConfigDict(extra="forbid")
    name: str
    task: str
    target: str
    words: tuple[str, ...]
    counted: tuple[str, ...]
    rankings: dict[str, dict[str, Any]]
    verdicts: tuple[Verdict, ...]
    examples: tuple[_StoredExample, ...]


class _Stored(BaseModel):
    """The content of ``results.json``: the fields of :class:`Results`; descriptions check themselves."""

    model_config = ConfigDict(extra="forbid")
    format: int
    recipe: str
    title: str
    model: dict[str, Any]
    versions: dict[str, str]
    seed: int
    draws: int
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    metrics: tuple[Metric, ...]
    concepts: tuple[_StoredConcept, ...]
    curves: tuple[Curve, ...]
    descriptions: tuple[dict[str, Any], ...]
    data: tuple[DataUsed, ...]
    settings: dict[str, Any]
    sha256: str

    @field_validator("comparisons", mode="before")
    @classmethod
    def _without_verdicts(cls, stored: Any) -> Any:
        """What :class:`Comparison` tells itself is written for other readers."""
        if not isinstance(stored, list):
            return stored
        return [{key: one[key] for key in one if key != "verdict"} if isinstance(one, dict) else one for one in stored]


def _concept_from(stored: _StoredConcept, folder: Path) -> ConceptResult:
    return ConceptResult(
        **{
            **dict(stored),
            "rankings": {method: HeadRanking.from_dict(one) for method, one in stored.rankings.items()},
            "examples": tuple(Example(**{**dict(one), "image": _image(one.image, folder)}) for one in stored.examples),
        }
    )


def _image(stored: _StoredImage | None, folder: Path) -> Image | None:
    if stored is None:
        return None
    import PIL.Image

    path = inside(folder, stored.file, what="image", where=str(folder / RESULTS))
    if file_hash(path) != stored.sha256:
        raise HeadPursuitError(f"{path} is not as it was written, it was changed or damaged: {_AGAIN}")
    with PIL.Image.open(path) as opened:
        return opened.convert("RGB")
