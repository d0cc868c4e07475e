"""``headpursuit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli.common import JsonOption, SeedOption, note, print_json, print_table
from headpursuit.errors import HeadPursuitError


def demo(
    out: Annotated[Path | None, typer.Option(help="New folder for the page, the tables and the figures.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over an earlier run in --out.")] = False,
    samples: Annotated[int, typer.Option(min=10, help="Held-out samples a task at most.")] = 240,
    draws: Annotated[int, typer.Option(min=2, help="Random control sets a concept.")] = 10,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find, name and edit heads of the embedded model: six concepts, each beside its controls."""
    if out is not None and out.exists() and any(out.iterdir()) and not (overwrite and (out / "results.json").is_file()):
        raise HeadPursuitError(f"{out} is not empty: choose a new folder, or --overwrite an earlier run")

    from headpursuit.evaluation.demo import NOTES, demo_tasks, run_demo
    from headpursuit.model.load import load
    from headpursuit.ranking.describe import describe
    from headpursuit.report import outcomes_report, render_readme_figure, render_report, save_run

    model = load("demo", device="cpu")
    outcomes, results = run_demo(model, limit=samples, selection_limit=samples, draws=draws, seed=seed)
    if out is not None:
        named = describe(outcomes[0].acts)
        run = outcomes_report(
            outcomes,
            results,
            tasks=demo_tasks("test", limit=samples, seed=seed),
            described=named,
            title="Six concepts in a small vision-language model",
            subtitle="Heads that SOMP chose on a selection split, scaled on held-out samples, beside their controls",
            notes=NOTES,
            draws=draws,
            command=f"headpursuit demo --samples {samples} --draws {draws} --seed {seed}",
        )
        results.save(out)
        save_run(run, out)
        render_readme_figure(run, out / "figure.png")
        note(f"wrote {render_report(run, out / 'report.html')}")
    if json:
        misses = {outcome.experiment.concept.name: list(outcome.misses) for outcome in outcomes}
        print_json({**results.to_dict(), "misses": misses})
        return
    print_table(
        f"demo, {len(model.anatomy.heads())} heads, α = −1 on the heads that SOMP chose; values relative to the unedited model",
        ["concept", "heads", "SOMP", "logit lens", "random [quartiles]", "kept at least", "enhanced", "n"],
        [_summary(outcome) for outcome in outcomes],
        right=["SOMP", "logit lens", "kept at least", "enhanced", "n"],
    )
    for outcome in outcomes:
        for miss in outcome.misses:
            typer.echo(f"missed, {outcome.experiment.concept.name}: {miss}")


def _summary(outcome: object) -> list[str]:
    from headpursuit.evaluation.protocol import Outcome
    from headpursuit.evaluation.results import find

    assert isinstance(outcome, Outcome)
    experiment, k = outcome.experiment, outcome.k
    target = {"task": experiment.target.task, "metric": experiment.target.metric}

    def only(**wanted: object) -> tuple[float, float, float]:
        row = find(outcome.rows, **wanted)[0]
        return tuple(float("nan") if value is None else value for value in (row.normalized, row.q25, row.q75))  # type: ignore[return-value]

    kept = [
        only(task=measure.task, metric=measure.metric, selection="somp", k=k, scale=-1.0)[0]
        for measure in experiment.kept
    ]
    median, low, high = only(**target, selection="random", scale=-1.0)
    up = ""
    if experiment.enhancement is not None and outcome.scale_up is not None:
        raised = experiment.enhancement.target
        share = only(task=raised.task, metric=raised.metric, selection="somp", scale=outcome.scale_up)[0]
        up = f"×{outcome.scale_up:g}: {share:.2f}"
    return [
        experiment.concept.name,
        " ".join(head.name for head in outcome.heads),
        f"{only(**target, selection='somp', k=k, scale=-1.0)[0]:.2f}",
        f"{only(**target, selection='logit_lens', k=k, scale=-1.0)[0]:.2f}",
        f"{median:.2f} [{low:.2f}, {high:.2f}]",
        f"{min(kept):.2f}",
        up,
        str(find(outcome.rows, **target)[0].n),
    ]
