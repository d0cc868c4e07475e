"""Captures and rankings of a run, kept on disk beside its cells, so that a run which was cut off does neither again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from headpursuit.activations.capture import capture
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import Positions
from headpursuit.concepts import Concept
from headpursuit.concepts.resolve import MultiToken
from headpursuit.engines import LOCAL, Engine
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.goals import GoalJudge
from headpursuit.evaluation.recipe import plain
from headpursuit.evaluation.teacher_forced_tasks import speaking
from headpursuit.files import digest, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import Sample, fingerprint
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.methods import CALIBRATED
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.select import options_of, select
from headpursuit.versions import versions

FORMAT = 1


def stored_capture(
    model: HeadModel,
    samples: Sequence[Sample],
    *,
    positions: Positions,
    folder: Path,
    engine: Engine = LOCAL,
    progress: bool = True,
) -> HeadActivations | HeadMoments:
    """A capture from ``folder``, under a name made of what it depends on; made or finished if it is not there."""
    path = folder / digest(depends_on(model, samples, positions))
    return capture(model, samples, positions=positions, out=path, engine=engine, progress=progress)


def stored_rankings(
    model: HeadModel,
    concept: Concept,
    task: Task,
    *,
    positions: Positions = "mean",
    n_atoms: int = 50,
    multi_token: MultiToken = "skip",
    methods: Sequence[str] = ("somp", "logit_lens"),
    neutral: Sequence[Sample] = (),
    judge: GoalJudge | None = None,
    seed: int = 0,
    folder: Path,
    engine: Engine = LOCAL,
    progress: bool = True,
    **options: Any,
) -> dict[str, HeadRanking]:
    """Rankings of a concept by several methods, from ``folder`` where they lie there; settings as a recipe's concept has them.

    Args:
        model: the model.
        concept: the words.
        task: selection data, asked as the concept's task asks.
        methods: any of :func:`headpursuit.select`; those that read no capture read along targets that speak of the concept.
        neutral: texts that do not, for the methods that tell what heads cost; knock-outs are then put in order by both.
        judge: the goal that a contest's edits are measured by.
        seed: seed of all that is drawn, the model's own answers included where samples have no target.
        folder: where captures and rankings are kept.
        engine: where captures are made and edits are measured.
        **options: further ones of :func:`headpursuit.select`, for the methods that take them.
    """
    given = {"positions": positions, "n_atoms": n_atoms, "multi_token": multi_token, "seed": seed, **options}
    if neutral:
        given |= {"neutral": neutral, "order": "natural"}
    common = {**depends_on(model, task.samples, positions), "words": concept.words, "plurals": concept.plurals}

    @cache
    def answered() -> Sequence[Sample]:
        return speaking(model, task, concept.words, seed=seed)

    def ranked(method: str) -> HeadRanking:
        takes = options_of(method)
        own = {key: value for key, value in given.items() if key in takes}
        if "draws" in takes:  # a recipe says what it compares, so that chance is not asked beside the paper's score
            own["draws"] = 200 if method == CALIBRATED else 0
        told = {key: fingerprint(neutral) if key == "neutral" else value for key, value in own.items()}
        if judge is not None and "judge" in takes:
            by_goal = {"cost": 1.0, "scale": judge.goal.scale}
            own |= {"judge": judge, **by_goal}
            told |= {"judge": judge.about, **by_goal}
        about = {**common, "concept": concept.name, "method": method, "options": told}
        if "acts" not in takes:
            about["answers"] = {"options": dict(task.options), "seed": seed}
        if "out" in takes:
            own["out"] = folder / "knock-outs"
        if "engine" in takes:
            own["engine"] = engine

        def made() -> HeadRanking:
            if "acts" in takes:
                common: dict[str, Any] = {"folder": folder / "captures", "engine": engine, "progress": progress}
                own["acts"] = stored_capture(model, task.samples, positions=positions, **common)
            samples = task.samples if "acts" in takes else answered()
            return select(model, samples, concept, method=method, progress=progress, **own)

        # Seconds would differ between a run that was cut off and one that was not.
        return stored_ranking(folder, about, lambda: replace(made(), cost=None))

    return {method: ranked(method) for method in methods}


def stored_ranking(folder: Path, about: Mapping[str, Any], make: Callable[[], HeadRanking]) -> HeadRanking:
    """A ranking from ``folder``, under a name made of what it depends on; made if it is not there."""
    path = folder / "rankings" / f"{digest(plain(about))}.json"
    if path.is_file():
        stored = read_kept(path, format=FORMAT, what="ranking", remedy="delete it, and the next run ranks anew")
        return HeadRanking.from_dict(stored["ranking"])
    ranking = make()
    write_sealed(path, {"format": FORMAT, "about": plain(about), "ranking": ranking.to_dict()})
    return ranking


def depends_on(model: HeadModel, samples: Sequence[Sample], positions: str) -> dict[str, Any]:
    """Everything that a capture of these samples depends on."""
    return {
        "model": weights_fingerprint(model.hf),
        "samples": fingerprint(samples),
        "tokens": token_fingerprint(model, samples),
        "positions": positions,
        "dtype": str(model.hf.dtype),
        "versions": versions(),
    }
