"""Word lists and their resolution to atoms of a dictionary; importing this loads no torch and no word list."""

from headpursuit.concepts.concept import Concept, concept, concept_names, load_concept
from headpursuit.concepts.resolve import (
    MultiToken,
    ResolutionEntry,
    ResolutionReport,
    ResolvedConcept,
    resolve,
)

__all__ = [
    "Concept",
    "MultiToken",
    "ResolutionEntry",
    "ResolutionReport",
    "ResolvedConcept",
    "concept",
    "concept_names",
    "load_concept",
    "resolve",
]
