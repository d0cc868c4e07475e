"""Tables of an evaluation in the paper's layout, with our intervals and the published numbers beside ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headpursuit.editing.where import ALL
from headpursuit.model.heads import parse_heads
from headpursuit.ranking.overlap import head_overlap
from headpursuit.report.effects import SELECTION_NAMES, SELECTIONS
from headpursuit.report.text import signed

if TYPE_CHECKING:
    import pandas as pd

    from headpursuit.evaluation.published import Published
    from headpursuit.evaluation.results import Comparison, Results, Row, Selection

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_LATEX |= {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "α": r"$\alpha$",
    "–": "--",
    "×": r"$\times$",
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: the line above it.
        header: headings.
        rows: cells.
        note: the line below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """As GitHub shows it."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        body = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        return "\n\n".join(part for part in (f"**{self.title}**", body, self.note) if part) + "\n"

    def to_csv(self) -> str:
        """For a spreadsheet."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.header, *self.rows])
        return out.getvalue()

    def to_latex(self) -> str:
        """A ``table`` environment for booktabs."""
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.rows)]
        caption = _latex(" ".join(part for part in (f"{self.title}.", self.note) if part))
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{caption}}}",
                rf"\begin{{tabular}}{{{'l' * len(self.header)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def results_tables(results: Results, published: Sequence[Published] = ()) -> list[Table]:
    """All tables of a run.

    Args:
        results: the run.
        published: the paper's numbers, those that may stand beside ours (see
            :func:`headpursuit.evaluation.published.published_for`).
    """
    if described := results.about.get("described"):
        return [_described(described)]
    concepts = list(dict.fromkeys(row.concept for row in results.rows))
    scales = list(dict.fromkeys(row.scale for row in results.rows if row.selection != "none"))
    tables = []
    if is_transfer(results):
        ks = sorted({row.k for row in results.rows if row.selection != "none"})
        tables += [
            _transfer(results, method, k, scale) for scale in scales for k in ks for method in present(results.rows)
        ]
        tables.append(_overlap(results))
    tables += [_effects(results, concept, scale, published) for concept in concepts for scale in scales]
    return [*tables, _comparisons(results.comparisons)]


def transfer_targets(results: Results) -> dict[str, str]:
    """The tasks that a concept's heads were chosen on, each with the metric that they are aimed at."""
    return {spec["task"]: spec["target"] for spec in results.about.get("recipe", {}).get("concepts", ())}


def present(rows: Iterable[Row]) -> tuple[Selection, ...]:
    """How heads were chosen in a run, in the order in which it is shown."""
    found = {row.selection for row in rows}
    return tuple(selection for selection in SELECTIONS if selection in found)


def is_transfer(results: Results) -> bool:
    """Whether heads that were chosen on several tasks are tried on each other's."""
    return len(transfer_targets(results)) > 1


def number(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number with two decimals, and its interval or quartiles."""
    if value is None:
        return "–"
    spread = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.2f}{spread}".replace("-", "−")


def effect(row: Row) -> float | None:
    """What is shown of a row: relative to the unedited model where that says something, or the change."""
    return row.change if row.normalized is None else row.normalized


def _effects(results: Results, concept: str, scale: float, published: Sequence[Published]) -> Table:
    rows = [row for row in results.rows if row.concept == concept and row.scale in (scale, 1.0)]
    places = list(dict.fromkeys((row.task, row.metric) for row in rows))
    theirs = [one for one in published if one.concept == concept and one.scale == scale]
    methods = [one for one in present(rows) if one != "random"]
    lines = []
    for task, metric in places:
        here = [row for row in rows if (row.task, row.metric) == (task, metric) and row.selection != "none"]
        base = next(row for row in rows if (row.task, row.metric, row.selection) == (task, metric, "none"))
        for k in sorted({row.k for row in here}):
            found: dict[str, Row] = {row.selection: row for row in here if row.k == k}
            paper = [
                one.value(task, metric, selection, k)
                for one in theirs
                for selection in ("somp", "logit_lens", "random")
            ]
            unit = "" if found["somp"].normalized is not None else " (change)"
            lines.append(
                (
                    task,
                    metric + unit,
                    str(k),
                    *(number(effect(found[one]), found[one].low, found[one].high) for one in methods),
                    number(effect(found["random"]), found["random"].q25, found["random"].q75),
                    number(base.value),
                    str(base.n),
                    *(
                        [" / ".join(map(number, paper)) if any(one is not None for one in paper) else ""]
                        if theirs
                        else []
                    ),
                )
            )
    return Table(
        title=f"{concept}, α = {signed(scale)}{_where(rows)}: what is left, unedited model = 1",
        header=(
            "task",
            "metric",
            "k",
            *(f"{SELECTION_NAMES[one]} [95 %]" for one in methods),
            "random, median [quartiles]",
            "unedited",
            "n",
            *(["paper: SOMP / logit lens / random"] if theirs else []),
        ),
        rows=tuple(lines),
        note=_source(theirs),
    )


def _where(rows: Iterable[Row]) -> str:
    places = sorted({row.where for row in rows} - {ALL})
    return f" on {' and '.join(places)} tokens" if places else ""


def _source(theirs: Sequence[Published]) -> str:
    sources = dict.fromkeys(one.source for one in theirs)
    return f"Published numbers: {'; '.join(sources)}." if sources else ""


def _transfer(results: Results, method: str, k: int, scale: float) -> Table:
    sources = list(dict.fromkeys(row.concept for row in results.rows))
    targets = transfer_targets(results)
    found = {
        (row.concept, row.task): row
        for row in results.rows
        if (row.metric, row.selection, row.k, row.scale) == (targets.get(row.task), method, k, scale)
    }
    lines = [
        (
            source,
            *(
                "–" if row is None else number(effect(row), row.low, row.high)
                for row in (found.get((source, task)) for task in targets)
            ),
        )
        for source in sources
    ]
    return Table(
        title=f"Transfer, {SELECTION_NAMES[method]}, k = {k}, α = {signed(scale)}: what is left of each task's target",
        header=("heads of", *(f"{task}, {metric}" for task, metric in targets.items())),
        rows=tuple(lines),
        note="Row: where the heads were chosen; column: where they were edited; 95 % intervals.",
    )


def head_sets_overlap(results: Results) -> pd.DataFrame:
    """Jaccard similarity of the heads that SOMP chose for each concept, at the largest k."""
    chosen = results.about["heads"]
    return head_overlap({name: parse_heads(methods["somp"]) for name, methods in chosen.items()})


def _overlap(results: Results) -> Table:
    table = head_sets_overlap(results)
    k = max(results.about["recipe"]["edit"]["k"])
    return Table(
        title=f"Heads shared by SOMP's choices, k = {k}: Jaccard similarity",
        header=("", *table.columns),
        rows=tuple(
            (str(name), *(number(value) for value in line))
            for name, line in zip(table.index, table.to_numpy(), strict=True)
        ),
    )


def _comparisons(comparisons: Iterable[Comparison]) -> Table:
    judged = [one for one in comparisons if one.wanted != "same" and one.against != "none"]
    return Table(
        title="SOMP's heads beside as many others: difference of the effects, paired over samples",
        header=("concept", "task", "metric", "α", "k", "against", "difference [95 %]", "wanted", "SOMP is"),
        rows=tuple(
            (
                one.concept,
                one.task,
                one.metric,
                signed(one.scale),
                str(one.k),
                SELECTION_NAMES[one.against],
                number(one.difference, one.low, one.high),
                one.wanted,
                {"better": "better", "worse": "worse", "open": "not told apart"}[one.verdict],
            )
            for one in judged
        ),
    )


def _described(described: Sequence[dict]) -> Table:
    return Table(
        title="Heads and the tokens that name them",
        header=("head", "explained", "SOMP", "logit lens"),
        rows=tuple(
            (
                head["name"],
                f"{100 * head['explained_variance']:.1f} %",
                ", ".join(map(_token, head["tokens"])),
                ", ".join(map(_token, head["lens_tokens"])),
            )
            for head in described
        ),
    )


def _token(text: str) -> str:
    return text.strip() or repr(text)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
