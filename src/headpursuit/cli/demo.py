"""``headpursuit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from headpursuit.evaluation.results import ConceptResult, Results


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page, the tables and the figures; a demo that was cut off goes on.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Samples a task and split at most.")] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Find, name and edit heads of the embedded model: six concepts, each beside its controls."""
    from headpursuit.evaluation.demo import run_demo

    results = run_demo(out=out, limit=limit, seed=seed)
    if out is not None:
        from headpursuit.report import render_readme_figure, write_report

        write_report(results, out)
        render_readme_figure(results, out / "figure.png")
        note(f"wrote {out / 'report.html'}")
    if json:
        print_json({"recipes": [one.to_dict() for one in results], "seed": seed})
        return
    print_table(
        "demo: values relative to the unedited model; suppressed at α = −1, k heads that SOMP ranked best",
        ["concept", "heads", "SOMP", "logit lens", "random [quartiles]", "kept at least", "enhanced", "n"],
        [_summary(one, concept) for one in results for concept in one.concepts],
        right=["SOMP", "logit lens", "kept at least", "enhanced", "n"],
    )
    for one in results:
        for concept in one.concepts:
            for verdict in concept.verdicts:
                for miss in verdict.misses:
                    typer.echo(f"missed, {concept.name}: {miss}")


def _summary(results: Results, concept: ConceptResult) -> list[str]:
    from headpursuit.evaluation.results import find

    down, *up = concept.verdicts
    rows = find(results.rows, concept=concept.name, task=down.task, metric=down.metric, scale=down.scale, k=down.k)
    found = {row.selection: row for row in rows}
    shares = [one.effect for one in down.kept if results.metric(one.task, one.metric).compared_by == "ratio"]
    spread = found["random"].spread

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    return [
        concept.name,
        " ".join(head.name for head in concept.heads()),
        *(shown(found[method].effect) for method in ("somp", "logit_lens")),
        shown(found["random"].effect) + ("" if spread is None else f" [{spread[0]:.2f}, {spread[1]:.2f}]"),
        shown(min((share for share in shares if share is not None), default=None)),
        f"×{up[0].scale:g}: {shown(up[0].effect)}" if up else "",
        str(found["somp"].n),
    ]
