"""Which tokens explain a head: dictionaries and simultaneous orthogonal matching pursuit."""

from headpursuit.pursuit.dictionary import Dictionary, TokenLabels
from headpursuit.pursuit.heads import somp, somp_heads
from headpursuit.pursuit.results import EarlyStopWarning, HeadPursuits, Pursuit
from headpursuit.pursuit.signal import HeadSignal
from headpursuit.pursuit.somp import somp_literal

__all__ = [
    "Dictionary",
    "EarlyStopWarning",
    "HeadPursuits",
    "HeadSignal",
    "Pursuit",
    "TokenLabels",
    "somp",
    "somp_heads",
    "somp_literal",
]
