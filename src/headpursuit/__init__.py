"""Find, explain and edit the attention heads of Hugging Face language and vision-language models.

Names are imported when they are first used, so that ``import headpursuit`` and ``headpursuit --help`` load no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError
from headpursuit.versions import __version__

_PLACES = {
    "Anatomy": "model.anatomy",
    "Concept": "concepts",
    "ConceptMap": "ranking.overlap",
    "Dictionary": "pursuit",
    "Export": "exporting.export",
    "Head": "model.heads",
    "HeadActivations": "activations.head_activations",
    "HeadDescription": "ranking.describe",
    "HeadEdit": "editing.edit",
    "HeadModel": "model.head_model",
    "HeadMoments": "activations.moments",
    "HeadRanking": "ranking.ranking",
    "HeadSignal": "pursuit",
    "Pursuit": "pursuit",
    "Sample": "model.samples",
    "Significance": "ranking.significance",
    "Stability": "ranking.stability",
    "Tuned": "tuning.tune",
    "attribute": "ranking.attribution",
    "capture": "activations.capture",
    "concept": "concepts",
    "concept_map": "ranking.overlap",
    "describe": "ranking.describe",
    "export": "exporting.export",
    "greedy_heads": "ranking.greedy",
    "head_overlap": "ranking.overlap",
    "load": "model.load",
    "as_concept": "concepts",
    "load_edit": "editing.edit",
    "load_heads": "ranking.load_heads",
    "merge_moments": "activations.moments",
    "open_capture": "activations.store",
    "random_controls": "ranking.controls",
    "rank": "ranking.rank",
    "significance": "ranking.significance",
    "somp": "pursuit",
    "somp_heads": "pursuit",
    "somp_literal": "pursuit",
    "somp_many": "pursuit",
    "somp_moments": "pursuit",
    "stability": "ranking.stability",
    "tune": "tuning.tune",
    "verify": "exporting.verify",
    "wrap": "model.load",
}
__all__ = ["HeadPursuitError", "__version__", *_PLACES]

if TYPE_CHECKING:
    from headpursuit.activations.capture import capture
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments, merge_moments
    from headpursuit.activations.store import open_capture
    from headpursuit.concepts import Concept, as_concept, concept
    from headpursuit.editing.edit import HeadEdit, load_edit
    from headpursuit.exporting.export import Export, export
    from headpursuit.exporting.verify import verify
    from headpursuit.model.anatomy import Anatomy
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.heads import Head
    from headpursuit.model.load import load, wrap
    from headpursuit.model.samples import Sample
    from headpursuit.pursuit import (
        Dictionary,
        HeadSignal,
        Pursuit,
        somp,
        somp_heads,
        somp_literal,
        somp_many,
        somp_moments,
    )
    from headpursuit.ranking.attribution import attribute
    from headpursuit.ranking.controls import random_controls
    from headpursuit.ranking.describe import HeadDescription, describe
    from headpursuit.ranking.greedy import greedy_heads
    from headpursuit.ranking.load_heads import load_heads
    from headpursuit.ranking.overlap import ConceptMap, concept_map, head_overlap
    from headpursuit.ranking.rank import rank
    from headpursuit.ranking.ranking import HeadRanking
    from headpursuit.ranking.significance import Significance, significance
    from headpursuit.ranking.stability import Stability, stability
    from headpursuit.tuning.tune import Tuned, tune


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'headpursuit' has no attribute {name!r}")
    value = getattr(import_module(f"headpursuit.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
