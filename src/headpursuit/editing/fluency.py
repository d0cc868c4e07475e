"""What an edit costs on the model's own text: whether it still writes sentences."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.measures import with_targets
from headpursuit.activations.teacher_forcing import teacher_forced_logits
from headpursuit.editing.edit import HeadEdit
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.samples import Sample


def fluency_cost(model: HeadModel, edit: HeadEdit, samples: Sequence[Sample], answers: Sequence[str]) -> float:
    """Nats that the median token of the unedited model's own answers loses under an edit.

    A concept that is suppressed costs a few tokens much and the others little; an edit that breaks the model costs all of
    them, so that the median tells the one from the other.

    Args:
        model: the unedited model.
        edit: the edit.
        samples: prompts.
        answers: what the unedited model wrote; blank ones are left out.

    Raises:
        HeadPursuitError: all answers are blank.

    >>> cost = fluency_cost(model, hp.HeadEdit(["L3.H11"], scale=1), samples, [sample.target for sample in samples])
    >>> cost
    0.0
    """
    asked = with_targets(samples, answers)
    unedited = _token_likelihoods(model, asked)
    with edit.applied(model):
        edited = _token_likelihoods(model, asked)
    return float((unedited - edited).median())


def _token_likelihoods(model: HeadModel, samples: Sequence[Sample]) -> Float[Tensor, " p"]:
    with torch.no_grad(), evaluating(model.hf):
        return torch.cat(
            [
                -torch.nn.functional.cross_entropy(logits, following, reduction="none").cpu()
                for _, pieces in teacher_forced_logits(model, samples, batch_size=16)
                for logits, following in pieces
            ]
        )
