"""The capture that a method reads: one that was given, or one that is made of the samples."""

from typing import Any

from headpursuit.activations.capture import capture
from headpursuit.activations.captured import Captured
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.engines import LOCAL, Engine
from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import require_same_model
from headpursuit.model.samples import Samples
from headpursuit.ranking.cost import Cost, ran_elsewhere


def captured(
    model: HeadModel, samples: Samples, acts: Captured | None, *, engine: Engine = LOCAL, **options: Any
) -> HeadActivations | HeadMoments:
    """The capture that was given, or one that is made of the samples.

    Args:
        model: the model.
        samples: what is captured where none was given.
        acts: the capture given, or None.
        engine: where one is made.
        **options: of :func:`headpursuit.capture`.

    Raises:
        HeadPursuitError: the capture given is of another model, or no capture.
    """
    if acts is None:
        made = capture(model, samples, engine=engine, **options)
        if engine.name != "local":
            ran_elsewhere(Cost(forward=made.about["n_samples"]))
        return made
    if not isinstance(acts, HeadActivations | HeadMoments):
        raise HeadPursuitError(f"acts is a {type(acts).__name__}: give what hp.capture or hp.open_capture returns")
    require_same_model("acts", acts.model, model.identity)
    return acts
