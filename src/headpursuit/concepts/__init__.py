"""Word lists and their resolution to atoms of a dictionary; importing this loads no torch and no word list."""

from headpursuit.concepts.concept import Concept, ConceptLike, as_concept, concept, concept_names
from headpursuit.concepts.resolve import MultiToken, ResolutionEntry, ResolutionReport, ResolvedConcept, resolve

__all__ = [
    "Concept",
    "ConceptLike",
    "MultiToken",
    "ResolutionEntry",
    "ResolutionReport",
    "ResolvedConcept",
    "as_concept",
    "concept",
    "concept_names",
    "resolve",
]
