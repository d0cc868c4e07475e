"""A model with a capture of it, and what can be asked of the two: where a concept lives, and what a head is."""

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

from headpursuit.activations.capture import capture as read_heads
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.store import open_capture
from headpursuit.concepts import Concept, ConceptLike, as_concept, concept_names
from headpursuit.concepts.counting import neutral_texts
from headpursuit.demo import TASKS, demo_samples
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head
from headpursuit.model.identity import require_same_model
from headpursuit.model.load import load
from headpursuit.model.samples import Sample, Samples, as_samples
from headpursuit.ranking.chance import threshold
from headpursuit.ranking.describe import HeadDescription, describe
from headpursuit.ranking.examples import check_samples
from headpursuit.ranking.name_evidence import FDR
from headpursuit.ranking.overlap import ConceptMap, concept_map
from headpursuit.ranking.rank import ChanceWarning, rank_resolved
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.scorer import Scorer

# Samples of each of the demo's tasks.
_OF_A_TASK = 80
# Random turns that a head's name is tested against, random sets that packaged concepts are, tokens and samples shown of a head.
_TURNS, _DRAWS, _TOKENS, _EXAMPLES = 50, 100, 6, 4


@dataclass(frozen=True, eq=False)
class Playground:
    """A model, and what its heads wrote.

    Attributes:
        model: as it was loaded; whatever runs it holds the lock.
        acts: what its heads wrote.
        samples: the captured samples; None where only the capture was given, which keeps no texts.
        seed: of whatever is drawn at random.
        lock: held while heads are looked at or scaled, so that nobody meets another's edit.
    """

    model: HeadModel
    acts: HeadActivations | HeadMoments
    samples: tuple[Sample, ...] | None
    seed: int = 0
    lock: Any = field(default_factory=RLock, repr=False)


@dataclass(frozen=True, eq=False)
class Found:
    """Where a concept lives.

    Attributes:
        concept: its words.
        tokens: the ids of those that are tokens of the model.
        ranking: all heads for it.
        remark: why the ranking may mean nothing; empty else.
    """

    concept: Concept
    tokens: tuple[int, ...]
    ranking: HeadRanking
    remark: str = ""


@dataclass(frozen=True)
class Opened:
    """One head, as it is shown.

    Attributes:
        head: which.
        description: its tokens, the test of the first against chance, and the samples that drive it.
        chance: how many heads of the model would have so good a name by chance: its p times their number.
        high: packaged concepts for which it stands out from random words, each with its deviations above them and its rank.
    """

    head: Head
    description: HeadDescription
    chance: float
    high: tuple[tuple[str, float, int], ...]

    @property
    def named(self) -> bool:
        """Whether its best token fits better than chance would give any head of the model."""
        return self.chance <= FDR


def open_playground(
    model: str | Path | HeadModel = "demo",
    *,
    capture: str | Path | None = None,
    samples: Samples | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Playground:
    """Load a model, and open a capture of it or make one.

    Args:
        model: what :func:`headpursuit.load` takes, or a model in memory.
        capture: folder of a capture of it. When left out, the samples are captured: the demo's own where ``model`` is the demo,
            and else a few packaged sentences, which say little of most concepts.
        samples: those of the capture, which keeps no texts; or those to be captured.
        seed: seed of random words, random turns and random heads.
        progress: show progress bars.
        **options: those of :func:`headpursuit.load`.

    Raises:
        HeadPursuitError: no such model or capture, a capture of another model, or samples that are not its own.
    """
    check_counts(*SEEDS, seed=seed)
    given = None if samples is None else tuple(as_samples(samples))
    if capture is not None:
        acts = open_capture(capture, trust_remote_code=options.get("trust_remote_code", False))
        if given is not None:
            check_samples(acts, given)
        loaded = model if isinstance(model, HeadModel) else load(model, part=acts.part, **options)
        require_same_model(str(capture), acts.model, loaded.identity)
        return Playground(loaded, acts, given, seed)
    loaded = model if isinstance(model, HeadModel) else load(model, **options)
    if given is None and loaded.source.id == "demo":
        drawn: Any = [one for task in TASKS for one in demo_samples(task, "selection", limit=_OF_A_TASK)]
        given = tuple(as_samples(drawn))
        return Playground(loaded, read_heads(loaded, given, positions="last", progress=progress), given, seed)
    given = given or tuple(neutral_texts(None, []))
    return Playground(loaded, read_heads(loaded, given, progress=progress), given, seed)


def find(playground: Playground, concept: ConceptLike) -> Found:
    """Rank all heads for a concept.

    Args:
        playground: model and capture.
        concept: words, or the name of a packaged concept.

    Raises:
        HeadPursuitError: no such concept, or one without a token in the vocabulary.
    """
    named = as_concept(concept)
    with playground.lock, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ChanceWarning)
        scorer = Scorer(playground.acts, progress=False)
        resolved = scorer.resolved(named)
        ranking, _ = rank_resolved(scorer, resolved, seed=playground.seed)
    remark = next((str(one.message) for one in told if one.category is ChanceWarning), "")
    return Found(named, tuple(resolved.token_ids), ranking, remark)


@lru_cache(maxsize=512)
def open_head(playground: Playground, head: Head) -> Opened:
    """Look at one head.

    Raises:
        HeadPursuitError: it was not captured.
    """
    acts = playground.acts
    with playground.lock:
        examples = _EXAMPLES if playground.samples is not None and acts.rows is not None else 0
        (described,) = describe(
            acts,
            heads=[head],
            n_atoms=_TOKENS,
            dictionary="words",
            significance=_TURNS,
            examples=examples,
            samples=playground.samples if examples else None,
            seed=playground.seed,
            progress=False,
        )
        found = _packaged(playground)
    heads = len(acts.heads())
    least = threshold(heads * max(1, len(found.concepts)))
    assert found.z is not None
    assert described.evidence is not None
    high = [
        (name, float(z[head.layer, head.head]), 1 + int((z > z[head.layer, head.head]).sum()))
        for name, z in zip(found.concepts, found.z, strict=True)
        if z[head.layer, head.head] > least
    ]
    return Opened(head, described, described.evidence.p * heads, tuple(sorted(high, key=lambda one: -one[1])))


@lru_cache(maxsize=1)
def _packaged(playground: Playground) -> ConceptMap:
    """How far each head's mean logit for each packaged concept lies above chance."""
    scorer = Scorer(playground.acts, progress=False)
    known = []
    for name in concept_names():
        try:
            scorer.resolved(name)
        except HeadPursuitError:  # its words are no tokens here, or their library is not installed
            continue
        known.append(name)
    return concept_map(playground.acts, known, method="logit_lens", draws=_DRAWS, seed=playground.seed, progress=False)
