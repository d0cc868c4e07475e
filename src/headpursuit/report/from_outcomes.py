"""From an evaluation's outcomes to the page about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

from headpursuit.evaluation.metrics import count_words
from headpursuit.report.content import ConceptSection, DescribedHead, Example, RunReport, Verdict

if TYPE_CHECKING:
    from headpursuit.evaluation.cells import Task
    from headpursuit.evaluation.protocol import Outcome
    from headpursuit.evaluation.results import Results
    from headpursuit.ranking.describe import HeadDescription

_EXAMPLES = 6


def outcomes_report(
    outcomes: Sequence[Outcome],
    results: Results,
    *,
    tasks: Mapping[str, Task],
    described: Sequence[HeadDescription],
    title: str,
    subtitle: str,
    notes: Sequence[str],
    draws: int,
    command: str,
) -> RunReport:
    """Gather a page.

    Args:
        outcomes: one a concept.
        results: the table that they make.
        tasks: the test split, whose samples the examples are taken from.
        described: every head, named over the whole vocabulary.
        title: heading.
        subtitle: one sentence below it.
        notes: limits and remarks.
        draws: random control sets behind each random value.
        command: what was typed.
    """
    names = {description.head: description for description in described}
    return RunReport(
        title=title,
        subtitle=subtitle,
        model=str(results.model["id"]),
        architecture=str(results.model["architecture"]),
        concepts=[_section(outcome, tasks[outcome.experiment.target.task], names) for outcome in outcomes],
        described=[_described(description) for description in described],
        versions=dict(results.versions),
        date=date.today().isoformat(),
        notes=notes,
        control_draws=draws,
        command=command,
    )


def _section(outcome: Outcome, task: Task, names: Mapping) -> ConceptSection:
    experiment, ranking = outcome.experiment, outcome.rankings["somp"]
    wanted = f"{experiment.target.metric} at most {experiment.at_most:.2f} of the unedited value at α = −1"
    if experiment.enhancement is not None:
        wanted += f", at least {experiment.enhancement.at_least:.2f} when enhanced"
    return ConceptSection(
        name=experiment.concept.name,
        words=[label.strip() for label in ranking.words],
        method=ranking.method,
        positions=ranking.positions,
        scores=ranking.scores,
        heads=[_described(names[head], score=ranking.score(head)) for head in outcome.heads],
        rows=[asdict(row) for row in outcome.rows],
        logit_lens_scores=outcome.rankings["logit_lens"].scores,
        examples=_examples(outcome, task),
        verdict=Verdict(target=wanted, reached=not outcome.misses, reason="; ".join(outcome.misses) or None),
        target_metric=experiment.target.metric,
        target_task=experiment.target.task,
        k=outcome.k,
    )


def _examples(outcome: Outcome, task: Task) -> list[Example]:
    """The first samples on which the unedited model spoke of the concept: on others there is nothing to see."""
    answers, words = outcome.answers, outcome.experiment.concept.words
    enhanced = answers.get("enhanced")
    spoke = [index for index, answer in enumerate(answers["none"]) if count_words(answer, words)]
    return [
        Example(
            prompt=task.samples[index].text,
            before=answers["none"][index].strip(),
            after=answers["somp"][index].strip(),
            image=task.samples[index].open_image(),
            enhanced=None if enhanced is None else enhanced[index].strip(),
            reference=task.samples[index].target,
        )
        for index in spoke[:_EXAMPLES]
    ]


def _described(description: HeadDescription, *, score: float | None = None) -> DescribedHead:
    return DescribedHead(
        name=description.head.name,
        tokens=description.tokens,
        explained_variance=None if description.explained_variance is None else description.explained_variance[-1],
        score=score,
    )
