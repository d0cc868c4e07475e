"""Simultaneous orthogonal matching pursuit: the tokens that explain a head, out of a dictionary."""

# First, so that the name of this module gives way to that of the function.
from headpursuit.pursuit.somp import somp_literal  # isort: split

from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.fast import somp, somp_heads, somp_many, somp_moments
from headpursuit.pursuit.results import EarlyStopWarning, HeadPursuits, Pursuit
from headpursuit.pursuit.signal import HeadSignal

__all__ = [
    "Dictionary",
    "EarlyStopWarning",
    "HeadPursuits",
    "HeadSignal",
    "Pursuit",
    "somp",
    "somp_heads",
    "somp_literal",
    "somp_many",
    "somp_moments",
]
