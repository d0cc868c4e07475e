"""The paper's numbers, as data, to stand beside ours where the checkpoint is the paper's."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from pydantic import TypeAdapter

from headpursuit.evaluation.results import Results


@dataclass(frozen=True)
class Published:
    """One series of normalised numbers over k.

    Attributes:
        recipe: which recipe repeats it.
        checkpoint: on which checkpoint it was measured.
        concept: as the recipe calls it.
        task: as the recipe calls it.
        metric: as the task calls it.
        scale: the edit's factor.
        k: numbers of heads.
        somp: one number for each k.
        logit_lens: the same; empty where it is not published.
        random: the same, medians.
        source: where it stands.
    """

    recipe: str
    checkpoint: str
    concept: str
    task: str
    metric: str
    scale: float
    k: tuple[int, ...]
    source: str
    somp: tuple[float, ...] = ()
    logit_lens: tuple[float, ...] = ()
    random: tuple[float, ...] = ()

    def value(self, task: str, metric: str, selection: str, k: int) -> float | None:
        """The published number, or None where there is none."""
        series = {"somp": self.somp, "logit_lens": self.logit_lens, "random": self.random}.get(selection, ())
        if (task, metric) != (self.task, self.metric) or k not in self.k or not series:
            return None
        return series[self.k.index(k)]


def published() -> tuple[Published, ...]:
    """Every published series that is known."""
    text = (resources.files("headpursuit.evaluation") / "published.toml").read_text(encoding="utf-8")
    return TypeAdapter(tuple[Published, ...]).validate_python(tomllib.loads(text)["series"])


def published_for(results: Results) -> tuple[Published, ...]:
    """The series that may stand beside a result: the same recipe on the same checkpoint."""
    place = (results.recipe, results.model["id"])
    return tuple(one for one in published() if (one.recipe, one.checkpoint) == place)
