from . import data, pursuit, report
from .activations.capture import capture
from .activations.head_activations import HeadActivations
from .activations.store import open_capture
from .activations.tokens import tokens
from .concepts import Concept, concept
from .editing.edit import HeadEdit, load_edit
from .errors import HeadPursuitError
from .evaluation.evaluate import evaluate
from .evaluation.results import Results
from .exporting.export import export
from .exporting.verify import verify
from .installation import doctor
from .model.anatomy import Anatomy
from .model.head_model import HeadModel
from .model.heads import Head
from .model.load import load, wrap
from .model.samples import Sample, as_samples
from .ranking.controls import random_controls
from .ranking.describe import describe
from .ranking.load_heads import load_heads
from .ranking.overlap import concept_map, head_overlap
from .ranking.rank import rank
from .ranking.ranking import HeadRanking
from .ranking.select import select
from .ranking.significance import significance
from .ranking.stability import stability
from .report.atlas import atlas
from .steering.suppress import enhance, suppress
from .tuning.tune import tune
from .versions import __version__

__all__ = [
    "Anatomy",
    "Concept",
    "Head",
    "HeadActivations",
    "HeadEdit",
    "HeadModel",
    "HeadPursuitError",
    "HeadRanking",
    "Results",
    "Sample",
    "__version__",
    "as_samples",
    "atlas",
    "capture",
    "concept",
    "concept_map",
    "data",
    "describe",
    "doctor",
    "enhance",
    "evaluate",
    "export",
    "head_overlap",
    "load",
    "load_edit",
    "load_heads",
    "open_capture",
    "pursuit",
    "random_controls",
    "rank",
    "report",
    "select",
    "significance",
    "stability",
    "suppress",
    "tokens",
    "tune",
    "verify",
    "wrap",
]
