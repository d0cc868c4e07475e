"""Captures and rankings of a run, kept on disk beside its cells, so that a run which was cut off does neither again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headpursuit.activations.capture import capture
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import Positions
from headpursuit.concepts import Concept
from headpursuit.concepts.resolve import MultiToken
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.teacher_forced_tasks import speaking
from headpursuit.files import digest, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import Sample, fingerprint
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.attribution import attribution
from headpursuit.ranking.methods import CALIBRATED, Selection
from headpursuit.ranking.rank import rank
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.versions import versions

FORMAT = 1


def stored_capture(
    model: HeadModel, samples: Sequence[Sample], *, positions: Positions, folder: Path, progress: bool = True
) -> HeadActivations | HeadMoments:
    """A capture from ``folder``, under a name made of what it depends on; made or finished if it is not there."""
    path = folder / digest(depends_on(model, samples, positions))
    return capture(model, samples, positions=positions, out=path, progress=progress)


def stored_rankings(
    model: HeadModel,
    concept: Concept,
    task: Task,
    *,
    positions: Positions = "mean",
    n_atoms: int = 50,
    multi_token: MultiToken = "skip",
    methods: Sequence[Selection] = ("somp", "logit_lens"),
    seed: int = 0,
    folder: Path,
    progress: bool = True,
) -> dict[str, HeadRanking]:
    """Rankings of a concept by several methods, from ``folder`` where they lie there; settings as a recipe's concept has them.

    Args:
        model: the model.
        concept: the words.
        task: selection data, asked as the concept's task asks.
        seed: seed of sampling, where attribution reads along the model's own answers.
        folder: where captures and rankings are kept.
    """
    found: dict[str, HeadRanking] = {}
    for method in methods:
        about = {
            **depends_on(model, task.samples, positions),
            "method": method,
            "words": concept.words,
            "plurals": concept.plurals,
            "concept": concept.name,
            "atoms": n_atoms,
            "multi_token": multi_token,
        }
        if method == CALIBRATED:
            about |= {"seed": seed}
        if method == "attribution":
            about |= {"options": dict(task.options), "seed": seed}
        path = folder / "rankings" / f"{digest(about)}.json"
        if path.is_file():
            stored = read_kept(path, format=FORMAT, what="ranking", remedy="delete it, and the next run ranks anew")
            found[method] = HeadRanking.from_dict(stored["ranking"])
            continue
        if method == "attribution":
            answered = speaking(model, task, concept.words, seed=seed)
            ranking = attribution(model, answered, concept, multi_token=multi_token, progress=progress)
        else:
            acts = stored_capture(model, task.samples, positions=positions, folder=folder / "captures", progress=progress)
            # A recipe says what it compares, so that chance is not asked beside the paper's score.
            draws = 200 if method == CALIBRATED else 0
            ranking = rank(
                acts,
                concept,
                method=method,
                n_atoms=n_atoms,
                multi_token=multi_token,
                draws=draws,
                seed=seed,
                progress=progress,
            )
        write_sealed(path, {"format": FORMAT, "about": about, "ranking": ranking.to_dict()})
        found[method] = ranking
    return found


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
