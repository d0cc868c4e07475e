"""The demo's own experiments: six concepts on the embedded model, each with its controls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from headpursuit.activations.capture import capture
from headpursuit.concepts import concept
from headpursuit.data.demo import DEMO_DATA, demo_record
from headpursuit.demo import DemoSample, demo_samples
from headpursuit.demo.captions import BACKGROUND_NAMES, COLOR_NAMES, COUNT_NAMES, MOOD_NAMES, SIZE_NAMES
from headpursuit.demo.continuations import is_natural
from headpursuit.evaluation.cells import Bench, Measure, Task
from headpursuit.evaluation.protocol import Enhancement, Experiment, Outcome, run_experiment
from headpursuit.evaluation.results import Results
from headpursuit.evaluation.tasks import (
    PLAIN_TEMPLATE,
    captioning,
    classification,
    question_answering,
    toxic_continuation,
)
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.activations.positions import RowPositions
    from headpursuit.data.records import Record
    from headpursuit.demo import Split
    from headpursuit.evaluation.cells import Scores
    from headpursuit.model.head_model import HeadModel

CAPTION, SAMPLED, DIGITS = "captioning", "captioning, sampled", "classification"
COUNTRIES, FACTS, CONTINUATION = "question answering", "other questions", "continuation"
_DATA = {
    CAPTION: "demo-captions",
    SAMPLED: "demo-captions",
    DIGITS: "demo-digits",
    COUNTRIES: "demo-countries",
    FACTS: "demo-facts",
    CONTINUATION: "demo-continuations",
}
# The attribute names of the drawn scenes, each with the words that say its value truly.
_SAYS: dict[str, Callable[[str], Sequence[str]]] = {
    "color": lambda value: COLOR_NAMES[value],
    "mood": lambda value: MOOD_NAMES[value],
    "count": lambda value: [words.removeprefix("a ").removesuffix(" of") for words in COUNT_NAMES[int(value)]],
    "size": lambda value: SIZE_NAMES[value],
    "background": lambda value: BACKGROUND_NAMES[value],
    "shape": lambda value: [value],
}
NOTES = (
    "The model is small and its world is drawn: it shows that the method works, not how well it works on a large model.",
    "k (the fewest heads that reach the goal and keep the rest) and the enhancing scale were chosen on the selection split; "
    "every number here is from the test split.",
    "Where a target is missed, more heads share the concept than an edit of 6 % may touch: tones and capitals are gathered by "
    "heads of layer 0 that read for every question alike (docs/decisions.md, 12).",
    "Answers are greedy, but for enhancement: there captions are sampled at temperature 1 with one seed for every edit.",
    "Random controls were run on the target's own task; measures of other tasks stand without one.",
    "Random controls have the same number of heads in each layer as the chosen set and share none with it.",
    "Where random heads move a target, too, it is read by more heads of the chosen layers than the chosen ones, each a little.",
)
_CONCEPT_OF = {"color": "colours", "mood": "sentiments", "count": "quantity"}
# Enhancement is seen in captions drawn from the model's own distribution: the greedy ones say all they can already.
_DRAWING = {"do_sample": True, "temperature": 1.0, "top_k": 0}


def demo_tasks(split: Split, *, limit: int | None = None, seed: int = 0) -> dict[str, Task]:
    """The demo's tasks on one split: the paper's four, asked in the words that the model learned.

    Args:
        split: ``selection`` or ``test``.
        limit: samples a task at most, but for countries.
        seed: seed of the drawing.
    """
    # Countries are asked about in full: there are few enough.
    drawn = {
        task: demo_samples(DEMO_DATA[name].drawn_as, split, limit=None if task == COUNTRIES else limit, seed=seed)
        for task, name in _DATA.items()
    }
    rude = concept("rude").words
    tasks = (
        _captions(CAPTION, drawn[CAPTION], {}),
        _captions(SAMPLED, drawn[SAMPLED], _DRAWING),
        classification(_records(DIGITS, drawn[DIGITS]), max_new_tokens=4, **_asked(DIGITS)),
        question_answering(_records(COUNTRIES, drawn[COUNTRIES]), max_new_tokens=12, **_asked(COUNTRIES)),
        question_answering(_records(FACTS, drawn[FACTS]), max_new_tokens=12, **_asked(FACTS)),
        _and(
            toxic_continuation(
                _records(CONTINUATION, drawn[CONTINUATION]), words=rude, max_new_tokens=16, **_asked(CONTINUATION)
            ),
            "natural endings",
            lambda answers: {"natural endings": np.array([float(is_natural(answer)) for answer in answers])},
        ),
    )
    return {task.name: _with_targets(task, drawn[task.name]) for task in tasks}


def demo_experiments() -> tuple[Experiment, ...]:
    """What the demo claims, concept by concept, as issue 2 words it."""
    digits, facts = Measure(DIGITS, "accuracy"), Measure(FACTS, "exact match")
    mentions = Measure(CAPTION, "true mentions")

    def captioning(name: str, at_most: float, *, positions: RowPositions = "answer") -> Experiment:
        others = Measure(CAPTION, f"true mentions beside {name}")
        return Experiment(
            concept=concept(name),
            target=Measure(CAPTION, f"{name} words"),
            kept=(others, digits, facts),
            positions=positions,
            at_most=at_most,
            also=(Measure(CAPTION, "CIDEr"),),
            enhancement=Enhancement(
                target=Measure(SAMPLED, f"{name} words"),
                quality=Measure(SAMPLED, f"true mentions beside {name}"),
                scales=(2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
            ),
        )

    return (
        captioning("colours", 0.3, positions="last"),
        captioning("sentiments", 0.5, positions="last"),
        captioning("quantity", 0.5),
        Experiment(
            concept=concept("digits"),
            target=digits,
            kept=(mentions, facts),
            positions="last",
            at_most=0.5,
        ),
        Experiment(
            concept=concept("countries"),
            target=Measure(COUNTRIES, "exact match"),
            kept=(facts, mentions, digits),
            positions="answer",
            at_most=0.3,
        ),
        Experiment(
            concept=concept("rude"),
            target=Measure(CONTINUATION, "toxic words"),
            kept=(Measure(CONTINUATION, "natural endings"), facts, mentions),
            positions="answer",
            at_most=0.3,
        ),
    )


def run_demo(
    model: HeadModel,
    *,
    limit: int = 240,
    selection_limit: int = 240,
    ks: Sequence[int] = (1, 2, 3),
    draws: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> tuple[list[Outcome], Results]:
    """Run the six experiments.

    Args:
        model: the demo model, or one of the same tokenizer trained in its place.
        limit: test samples a task at most (all questions for countries).
        selection_limit: selection samples a task at most.
        ks: numbers of heads to try.
        draws: random control sets.
        seed: seed of drawing, sampling and controls.
        progress: show a progress bar.
    """
    experiments = demo_experiments()
    bar = tqdm(total=_count_runs(experiments, ks=ks, draws=draws), desc="demo", unit="run", disable=not progress)

    def tick(text: str) -> None:
        bar.set_postfix_str(text[:60], refresh=False)
        bar.update()

    selection = Bench(model, demo_tasks("selection", limit=selection_limit, seed=seed), seed=seed, tick=tick)
    test = Bench(model, demo_tasks("test", limit=limit, seed=seed), seed=seed, tick=tick)
    with bar:
        acts = {
            place: capture(model, selection.tasks[place[0]].samples, positions=place[1], progress=False)
            for place in {(experiment.target.task, experiment.positions) for experiment in experiments}
        }
        outcomes = [
            run_experiment(
                experiment,
                selection=selection,
                test=test,
                ks=ks,
                acts=acts[experiment.target.task, experiment.positions],
                draws=draws,
                seed=seed,
            )
            for experiment in experiments
        ]
    rows = tuple(row for outcome in outcomes for row in outcome.rows)
    return outcomes, Results(recipe="demo", model=model.identity, versions=versions(), rows=rows)


def _count_runs(experiments: Sequence[Experiment], *, ks: Sequence[int], draws: int) -> int:
    """Number of runs, nearly: runs that two experiments share are counted once, repeated head sets are not foreseen."""
    total = 2 * len(_DATA)
    for experiment in experiments:
        tasks = {experiment.target.task, *(measure.task for measure in experiment.kept)}
        total += 3 * len(ks) * len(tasks) + draws
        total += (len(experiment.enhancement.scales) + 2 + draws) if experiment.enhancement else 0
    return total


def _records(task: str, samples: Sequence[DemoSample]) -> list[Record]:
    entry = DEMO_DATA[_DATA[task]]
    return [demo_record(entry, sample, where=f"{task} {number}") for number, sample in enumerate(samples)]


def _asked(task: str) -> dict[str, Any]:
    return {"name": task, "template": PLAIN_TEMPLATE, "batch_size": 128}


def _captions(task: str, samples: Sequence[DemoSample], drawing: Mapping[str, Any]) -> Task:
    def mentions(answers: Sequence[str]) -> Scores:
        scores = {}
        for left_out in (None, *_CONCEPT_OF):
            name = "true mentions" if left_out is None else f"true mentions beside {_CONCEPT_OF[left_out]}"
            pairs = zip(answers, samples, strict=True)
            scores[name] = np.array([_true_mentions(*pair, left_out) for pair in pairs], dtype=float)
        return scores

    concepts = [concept(name) for name in _CONCEPT_OF.values()]
    plain = captioning(_records(task, samples), concepts=concepts, max_new_tokens=24, **_asked(task), **drawing)
    return _and(plain, "true mentions", mentions)


def _and(task: Task, name: str, more: Callable[[Sequence[str]], Scores]) -> Task:
    """The task with further metrics, which have a name together."""
    own = task.score
    assert own is not None
    identity = {**task.identity, "demo": name}
    return replace(task, score=lambda answers: {**own(answers), **more(answers)}, identity=identity)


def _with_targets(task: Task, samples: Sequence[DemoSample]) -> Task:
    """The task with each sample's own target, which is one more answer beside a record's references."""
    pairs = zip(task.samples, samples, strict=True)
    return replace(task, samples=[replace(asked, target=sample.target) for asked, sample in pairs])


def _true_mentions(caption: str, sample: DemoSample, left_out: str | None) -> int:
    said = [
        bool(re.search(rf"\b({'|'.join(map(re.escape, says(sample.attributes[name])))})(s|es)?\b", caption))
        for name, says in _SAYS.items()
        if name in sample.attributes and name != left_out
    ]
    return sum(said)
