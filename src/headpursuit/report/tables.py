"""Tables of a result in the paper's layout, with intervals, and with the published numbers where they may stand beside ours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from headpursuit.drawing.style import SELECTION_NAMES, readable, signed, token
from headpursuit.editing.where import ALL
from headpursuit.evaluation.curves import Curve, standings
from headpursuit.evaluation.published import Published, published_for
from headpursuit.evaluation.results import ConceptResult, Results, Row
from headpursuit.files import csv_text
from headpursuit.optional import optional_import
from headpursuit.ranking.describe import Descriptions
from headpursuit.ranking.methods import MEASURES, Selection
from headpursuit.ranking.overlap import head_overlap
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.report.summary import amount, edits
from headpursuit.report.text import number, percent, shown
from headpursuit.tuning.tune import Tuned

Reportable = Results | Sequence[Results] | Tuned | HeadRanking
_HEADS_SHOWN = 32
_LATEX = {one: f"\\{one}" for one in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "α": r"$\alpha$",
    "–": "--",
    "×": r"$\times$",
    "≤": r"$\leq$",
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: the line above it.
        frame: cells, made fit to be read; columns in which nothing stands are left out.
        note: the line below it.
    """

    title: str
    frame: pd.DataFrame
    note: str = ""

    def to_markdown(self) -> str:
        """The table as GitHub shows it."""
        lines: list[list[str]] = [[*map(str, self.frame)], ["---"] * self.frame.shape[1], *self.frame.to_numpy().tolist()]
        body = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        return "\n\n".join(part for part in (f"**{self.title}**", body, self.note) if part) + "\n"

    def to_html(self) -> str:
        """The table as a part of a page."""
        return self.frame.to_html(index=False, border=0)

    def to_csv(self) -> str:
        """The table for a spreadsheet."""
        return csv_text(self.frame, index=False, lineterminator="\n")

    def to_latex(self) -> str:
        """The table as a ``table`` environment for booktabs.

        Raises:
            MissingExtraError: jinja2 is not installed.
        """
        caption = " ".join(part for part in (f"{self.title}.", self.note) if part)
        frame = self.frame.map(_latex).rename(columns=_latex)
        optional_import("jinja2", extra="report", purpose="a table in LaTeX")
        return frame.to_latex(index=False, caption=_latex(caption), column_format="l" * frame.shape[1])


def tables(what: Reportable) -> list[Table]:
    """All tables of a result: what was wished, effects for each concept and scale, comparisons, transfer, descriptions.

    Args:
        what: an evaluation, several, a tuned edit, or a ranking.

    >>> tables(hp.rank(acts, hp.concept("colours")))[0].frame.columns.tolist()
    ['rank', 'head', 'correlation × deviations above chance']
    """
    if isinstance(what, HeadRanking):
        return [_ranking(what)]
    if isinstance(what, Tuned):
        return [*_tuned(what), *_of_results(what.results, effects=False)]
    if isinstance(what, Results):
        return list(_of_results(what))
    return [Table(f"{one.title}: {table.title}", table.frame, table.note) for one in what for table in _of_results(one)]


def overview(several: Sequence[Results]) -> Table:
    """The table of what every edit did that a reader should know of, a line an edit."""
    lines = []
    for one in (one for results in several for concept in results.concepts for one in edits(results, concept)):
        kept = "" if one.worst is None else f"{amount(one.worst)} ({readable(one.worst.metric)})"
        lines.append(
            {
                "concept": readable(one.concept.name),
                "measure": readable(one.row.metric),
                "heads": f"{one.row.k}" + (f" of {one.n_heads}" if one.n_heads else ""),
                "α": signed(round(one.row.scale, 2)),
                **{name: shown(one.target.get(key)) for key, name in SELECTION_NAMES.items()},
                "kept least": f"change {kept}" if one.worst is not None and one.worst.normalized is None else kept,
                "n": str(one.row.n),
                "verdict": (one.state or ("", ""))[1],
            }
        )
    return as_table("What happened, in numbers", lines)


def transfer(results: Results) -> dict[tuple[Selection, int, float], pd.DataFrame]:
    """The effects of heads that were chosen on one task on another's target, a table a choice, k and scale.

    Returns:
        Tables of rows by choice, k and scale, concepts down and targets across; none where all heads are aimed at one target.
    """
    targets = list(dict.fromkeys((one.task, one.target) for one in results.concepts))
    rows = [row for row in results.rows if (row.task, row.metric) in targets and row.selection != "none"]
    own = {one.name: (one.task, one.target) for one in results.concepts}
    if not any((row.task, row.metric) != own.get(row.concept) for row in rows):
        return {}
    found = {}
    for selection, k, scale in dict.fromkeys((row.selection, row.k, row.scale) for row in rows):
        here = {
            (row.concept, f"{readable(row.task)}, {readable(row.metric)}"): row
            for row in rows
            if (row.selection, row.k, row.scale) == (selection, k, scale)
        }
        names = [f"{readable(task)}, {readable(metric)}" for task, metric in targets]
        cells = [[here.get((concept, name)) for name in names] for concept in own]
        found[selection, k, scale] = pd.DataFrame(cells, index=list(own), columns=names, dtype=object)
    return found


def choice_in_words(selection: Selection, k: int, scale: float) -> str:
    """A choice of heads and their scale as a title."""
    return f"{SELECTION_NAMES[selection]}, k = {k}, α = {signed(scale)}"


def shared_heads(results: Results) -> pd.DataFrame | None:
    """The Jaccard similarity of the heads that were chosen for each concept, at the largest k; None for a single concept."""
    ranked = [one for one in results.concepts if one.method]
    k = largest_k(results)
    return head_overlap({one.name: one.heads(k) for one in ranked}) if len(ranked) > 1 and k else None


def largest_k(results: Results, concept: ConceptResult | None = None) -> int:
    """The number of heads that the goals settled on for a concept, or else the largest that was tried; 0 for none."""
    if concept is not None and concept.k:
        return concept.k
    return max((row.k for row in results.rows if concept is None or row.concept == concept.name), default=0)


def _of_results(results: Results, *, effects: bool = True) -> Iterator[Table]:
    if any(concept.verdicts for concept in results.concepts):
        yield _verdicts(results)
    matrices = transfer(results)
    for choice, cells in matrices.items():
        texts = cells.map(shown).rename_axis("heads of").reset_index()
        note = "Line: where the heads were chosen; column: where they were edited; 95 % intervals, quartiles for random heads."
        yield Table(f"Transfer, {choice_in_words(*choice)}: what is left of each target", texts, note)
    if matrices and (similar := shared_heads(results)) is not None:
        title = f"Heads shared by the concepts, k = {largest_k(results)}: Jaccard similarity"
        yield Table(title, similar.map(number).rename_axis("heads of").reset_index())
    if effects:
        for concept in dict.fromkeys(row.concept for row in results.rows):
            rows = [row for row in results.rows if row.concept == concept]
            for scale in dict.fromkeys(row.scale for row in rows if row.selection != "none"):
                yield _effects(results, rows, scale)
    if judged := [one for one in results.comparisons if one.wanted != "same" and one.against != "none"]:
        lines = [
            {
                "concept": readable(one.concept),
                "task": readable(one.task),
                "metric": readable(one.metric),
                "α": signed(round(one.scale, 2)),
                "k": str(one.k),
                "against": SELECTION_NAMES[one.against],
                "difference [95 %]": number(one.difference, _pair(one.low, one.high)),
                "wanted": one.wanted,
                "verdict": {"open": "not told apart"}.get(one.verdict, one.verdict),
            }
            for one in judged
        ]
        main = next((one.method for one in results.concepts if one.method), "somp")
        who = "The tuned edit" if "tuned" in results.selections else f"Heads by {SELECTION_NAMES[main]}"
        yield as_table(f"{who} beside others: difference of the effects, paired over samples", lines)
    if results.curves:
        yield from _curves(results.curves)
    if results.descriptions:
        yield _descriptions(results)


def _effects(results: Results, rows: Sequence[Row], scale: float) -> Table:
    concept = rows[0].concept
    theirs = [one for one in published_for(results) if (one.concept, one.scale) == (concept, scale)]
    unedited = {(row.task, row.metric): row for row in rows if row.selection == "none"}
    found: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in rows:
        if row.selection != "none" and row.scale == scale:
            found.setdefault((row.task, row.metric, row.k), {})[row.selection] = row
    measures = list(dict.fromkeys((task, metric) for task, metric, _ in found))
    lines = []
    for (task, metric, k), by_selection in sorted(found.items(), key=lambda one: (measures.index(one[0][:2]), one[0][2])):
        first, base = next(iter(by_selection.values())), unedited.get((task, metric))
        lines.append(
            {
                "task": readable(task),
                "metric": readable(metric) + ("" if first.normalized is not None else " (change)"),
                "k": str(k),
                **{_heading(one): shown(by_selection.get(one)) for one in results.selections},
                "unedited": number(None if base is None else base.value),
                "n": str(first.n),
                "paper: SOMP / logit lens / random": _published(theirs, task, metric, k),
            }
        )
    tokens = sorted({row.where for row in rows} - {ALL})
    where = f" on {' and '.join(tokens)} tokens" if tokens else ""
    sources = "; ".join(dict.fromkeys(one.source for one in theirs))
    return as_table(
        f"{readable(concept)}, α = {signed(scale)}{where}: what is left, unedited model = 1",
        lines,
        f"Published numbers: {sources}." if sources else "",
    )


def _curves(curves: Sequence[Curve]) -> Iterator[Table]:
    first = curves[0].method
    lines = [
        {key: number(value) if isinstance(value, float) else str(value) for key, value in line.items()}
        for line in standings(curves)
    ]
    note = (
        "At a cost in nats a token of neutral text: the mean share of what the furthest way reaches. Ahead and behind: cases "
        f"in which it surely moves the target further than {readable(first)}, or less far, at the largest cost."
    )
    yield as_table("Ways to choose heads, over all concepts", lines, note)
    for concept, kind in dict.fromkeys((one.concept, one.kind) for one in curves):
        own = [one for one in curves if (one.concept, one.kind) == (concept, kind)]
        lines = [
            {
                "method": readable(one.method),
                **{f"at {at.cost:g} [95 %]": number(at.effect, (at.low, at.high)) for at in one.at_costs},
                f"beyond {readable(first)} [95 %]": ""
                if one.method == first
                else number(one.at_costs[-1].ahead, (one.at_costs[-1].ahead_low, one.at_costs[-1].ahead_high)),
                "area": number(one.area[0], one.area[1:]),
                "passes": "" if not one.forward else f"{one.forward:.0f} + {one.backward:.0f}",
                "seconds": "" if not one.forward else f"{one.seconds:.0f}",
                "halves agree": percent(one.stability),
                "heads": ", ".join(one.heads),
            }
            for one in own
        ]
        note = f"Of {own[0].n} test samples; passes forward and backward, over the selection samples."
        yield as_table(f"{kind.capitalize()} {readable(concept)}: {own[0].unit} at equal cost", lines, note)


def _heading(selection: str) -> str:
    return f"{SELECTION_NAMES[selection]}{', median [quartiles]' if selection == 'random' else ' [95 %]'}"


def _published(theirs: Sequence[Published], task: str, metric: str, k: int) -> str:
    values = [one.value(task, metric, method, k) for one in theirs for method in ("somp", "logit_lens", "random")]
    return " / ".join(number(value) or "–" for value in values) if any(value is not None for value in values) else ""


def _verdicts(results: Results) -> Table:
    lines = []
    for one in (one for concept in results.concepts for one in edits(results, concept)):
        if one.verdict is None:
            continue
        verdict = one.verdict
        lines.append(
            {
                "concept": readable(one.concept.name),
                "target": f"{readable(verdict.metric)}, {readable(verdict.task)}",
                "α": signed(verdict.scale),
                "k": str(verdict.k),
                "wished": f"{'at most' if verdict.kind == 'suppress' else 'at least'} {verdict.wanted:g}",
                "came to": number(verdict.effect),
                "random heads": number(verdict.control),
                "kept least": "" if one.worst is None else f"{readable(one.worst.metric)} {number(one.worst.effect)}",
                "verdict": "reached" if verdict.reached else "missed",
                "why": readable("; ".join(verdict.misses)),
            }
        )
    return as_table("What was wished, and what came of it on the test split", lines)


_DESCRIBED = ("head", "explained", "SOMP", "fit", "by chance", "q", "logit lens")


def _descriptions(results: Results) -> Table:
    by_head: dict[str, dict[str, str]] = {}
    for one in results.descriptions:
        line = by_head.setdefault(one.head.name, dict.fromkeys(_DESCRIBED, "") | {"head": one.head.name})
        if one.explained_variance:
            line["explained"] = percent(one.explained_variance[-1])
        line["SOMP" if one.method == "somp" else "logit lens"] = one.name(token)
        if one.evidence is not None:
            line |= {
                "fit": f"{one.evidence.fit:.3g}",
                "by chance": f"{one.evidence.by_chance:.3g}",
                "q": f"{one.evidence.q:.2g}",
            }
    note = "; ".join(Descriptions(results.descriptions).remarks())
    return as_table("Heads and the tokens that name them", list(by_head.values()), note)


def _ranking(ranking: HeadRanking) -> Table:
    measure = MEASURES.get(ranking.method, ranking.method)
    lines = [
        {"rank": str(index), "head": head.name, measure: f"{ranking.score(head):.3f}".replace("-", "−")}
        for index, head in enumerate(ranking.order()[:_HEADS_SHOWN], start=1)
    ]
    note = f"Of {len(ranking.order())} heads; {ranking.n} samples, positions: {ranking.positions}."
    return as_table(f"The heads that write {readable(ranking.concept)}, best first", lines, note)


def _tuned(tuned: Tuned) -> Iterator[Table]:
    goal, rows = tuned.goal, tuned.results.rows
    lines = []
    for metric in goal.metrics:
        found = {row.selection: row for row in rows if (row.task, row.metric) == (metric.task, metric.name)}
        limit = next((one.at_most for one in goal.limits if one.metric == metric), None)
        lines.append(
            {
                "task": readable(metric.task),
                "metric": readable(metric.name) + ("" if found["tuned"].normalized is not None else " (change)"),
                f"fixed (k = {len(tuned.fixed.heads)}, α = {signed(tuned.fixed.scale)}) [95 %]": shown(found.get("somp")),
                "tuned [95 %]": shown(found["tuned"]),
                _heading("random"): shown(found.get("random")),
                "wished": "target" if limit is None else f"loss ≤ {limit:g}",
                "unedited": number(found["none"].value),
                "n": str(found["none"].n),
            }
        )
    name = f"{'enhance' if goal.rises else 'suppress'} {readable(goal.concept)}"
    note = f"Tuned: {tuned.edit}. Fixed: {tuned.fixed}."
    if tuned.misses:
        note += f" Missed: {'; '.join(tuned.misses)}."
    yield as_table(f"{name}: what is left on the test split", lines, note)
    curve = [
        {
            "edit": str(one.trial.edit),
            "target, tuning": number(one.trial.effect),
            "loss, tuning": number(one.trial.cost),
            "target, test": number(one.effect),
            "loss, test": number(one.cost),
        }
        for one in tuned.front
    ]
    yield as_table(f"{name}: the trade-off, cheapest first (1 = all of the allowed loss)", curve)
    tried = [
        {
            "trial": str(one.number),
            "order": SELECTION_NAMES.get(one.method, one.method),
            "k": str(len(one.edit.heads)),
            "target": number(one.effect),
            "loss": number(one.cost),
            "chosen": "chosen" if one.edit == tuned.edit else "fixed" if one.edit == tuned.fixed else "",
            "edit": str(one.edit),
        }
        for one in tuned.trials
    ]
    yield as_table(f"{name}: every edit that was tried, on the tuning split", tried)


def as_table(title: str, lines: Sequence[dict[str, str]], note: str = "") -> Table:
    """A table of lines that name their cells; columns in which nothing stands are left out."""
    frame = pd.DataFrame(lines, dtype=object)
    return Table(title, frame.loc[:, [bool((frame[name] != "").any()) for name in frame]], note)


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
