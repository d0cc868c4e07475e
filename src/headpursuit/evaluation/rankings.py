"""Captures and rankings of a run, kept on disk beside its cells, so that a run which was cut off does neither again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.activations.capture import capture
from headpursuit.activations.store import INDEX, open_capture
from headpursuit.evaluation.cell_files import digest, write_whole
from headpursuit.evaluation.teacher_forced_tasks import speaking
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import fingerprint
from headpursuit.ranking.attribution import attribute
from headpursuit.ranking.rank import rank
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.activations.positions import Positions
    from headpursuit.evaluation.cells import Task
    from headpursuit.evaluation.prepare import Aim
    from headpursuit.evaluation.results import Selection
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample


def stored_capture(
    model: HeadModel, samples: Sequence[Sample], *, positions: Positions, folder: Path, progress: bool = True
) -> HeadActivations | HeadMoments:
    """A capture that lies in ``folder`` under a name made of what it depends on; made or finished if it is not there."""
    path = folder / digest(origin(model, samples, positions))
    if path.exists() and not (path / INDEX).is_file():
        shutil.rmtree(path)  # cut off before it held anything
    if path.exists() and json.loads((path / INDEX).read_text(encoding="utf-8"))["complete"]:
        return open_capture(path)
    return capture(model, samples, positions=positions, out=path, progress=progress)


def stored_rankings(
    model: HeadModel,
    aim: Aim,
    task: Task,
    *,
    methods: Sequence[Selection] = ("somp", "logit_lens"),
    folder: Path,
    progress: bool = True,
) -> dict[Selection, HeadRanking]:
    """Rankings of a concept by several methods, from ``folder`` where they lie there.

    Args:
        model: the model.
        aim: the concept.
        task: selection data, asked as the concept's task asks.
        methods: ``somp``, ``logit_lens``, ``attribution``.
        folder: where captures and rankings are kept.
        progress: show progress bars.
    """
    found: dict[Selection, HeadRanking] = {}
    samples = task.samples
    for method in methods:
        about = {
            **origin(model, samples, aim.spec.positions),
            "method": method,
            "words": aim.concept.words,
            "plurals": aim.concept.plurals,
            "concept": aim.name,
            "atoms": aim.spec.atoms,
            "multi_token": aim.spec.multi_token,
        }
        path = folder / "rankings" / f"{digest(about)}.json"
        if not path.is_file():
            multi_token = aim.spec.multi_token
            if method == "attribution":
                answered = speaking(model, task, aim.concept.words)
                ranking = attribute(model, answered, aim.concept, multi_token=multi_token, progress=progress)
            else:
                positions, place = aim.spec.positions, folder / "captures"
                acts = stored_capture(model, samples, positions=positions, folder=place, progress=progress)
                ranking = rank(
                    acts,
                    aim.concept,
                    method=method,  # type: ignore[arg-type]
                    n_atoms=aim.spec.atoms,
                    multi_token=multi_token,
                    progress=progress,
                )
            write_whole(path, json.dumps(_plain(ranking)))
        found[method] = _ranking(json.loads(path.read_text(encoding="utf-8")))
    return found


def origin(model: HeadModel, samples: Sequence[Sample], positions: str) -> dict[str, Any]:
    """What a capture of these samples depends on."""
    return {
        "model": weights_fingerprint(model.hf),
        "samples": fingerprint(samples),
        "positions": positions,
        "dtype": str(model.hf.dtype),
        "versions": versions(),
    }


def _plain(ranking: HeadRanking) -> dict[str, Any]:
    scores = [[None if np.isnan(score) else score for score in row] for row in ranking.scores.tolist()]
    content = {key: getattr(ranking, key) for key in ("concept", "method", "words", "n", "positions", "model", "about")}
    return {**content, "scores": scores}


def _ranking(stored: dict[str, Any]) -> HeadRanking:
    scores = np.array(stored.pop("scores"), dtype=float)
    return HeadRanking(scores=scores, **{**stored, "words": tuple(stored["words"])})
