"""A capture that scores its heads for sets of atoms: by the paper's SOMP, and by the logit lens beside it."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Unpack, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.store import ActsLike, as_acts
from headpursuit.concepts import ConceptLike, MultiToken, ResolvedConcept, as_concept, resolve
from headpursuit.concepts.vocabulary import gather_atoms
from headpursuit.engines import LOCAL, EngineOptions, as_engine
from headpursuit.errors import check_choice, check_counts
from headpursuit.pursuit.batches import SMALL
from headpursuit.pursuit.checks import Criterion
from headpursuit.pursuit.logit_lens import mean_logits
from headpursuit.pursuit.results import EarlyStopWarning
from headpursuit.ranking.methods import CALIBRATED, LOGIT_LENS, Method, as_method, as_ranking_method
from headpursuit.ranking.one_layer import Layer, layer_by_layer
from headpursuit.ranking.pursue import criterion_of, seen_by, somp_capture, somp_capture_many
from headpursuit.ranking.ranking import HeadRanking

# The token ids of every atom of a set, as in `ResolvedConcept.rows`.
AtomRows = tuple[tuple[int, ...], ...]

# Sets whose atoms are in memory at once.
_SETS = 256


class ScoreOptions(EngineOptions, total=False):
    """The options of a score, for those functions that score more than once."""

    method: str
    n_atoms: int
    criterion: Criterion | None
    multi_token: MultiToken
    variants: bool
    fold_norm: bool
    progress: bool


class Scorer:
    """A capture, and how its heads are scored; arguments as for :func:`rank`.

    Attributes:
        acts: the capture, or those of its rows that the criterion looks at.
        criterion: the pursuit's.
        method: by its usual name.
        progress: show progress bars.
        engine: where heads are pursued, each layer by itself.
        unembedding: the rows that concepts are resolved to, shape ``(v, d)``, float32, with the final norm's gain on them
            where asked for.
    """

    def __init__(
        self,
        acts: ActsLike,
        *,
        method: str = CALIBRATED,
        n_atoms: int = 50,
        criterion: Criterion | None = None,
        multi_token: MultiToken = "skip",
        variants: bool = True,
        fold_norm: bool = False,
        progress: bool = True,
        **where: Unpack[EngineOptions],
    ) -> None:
        check_counts(n_atoms=n_atoms)
        self.engine = as_engine(**where)
        check_choice(get_args(MultiToken), multi_token=multi_token)
        self.method, self.progress = as_ranking_method(method), progress
        self.acts = acts = seen_by(as_acts(acts), criterion)
        self.criterion = criterion or criterion_of(acts)
        self._n_atoms, self._multi_token = n_atoms, multi_token
        self._about: dict[str, Any] = {
            "n_atoms": n_atoms,
            "multi_token": multi_token,
            "variants": variants,
            "fold_norm": fold_norm,
        }
        if criterion is not None:
            self._about["criterion"] = criterion
        unembedding = acts.weights.unembedding().float()
        self.unembedding = unembedding * acts.weights.final_norm_gain() if fold_norm else unembedding

    def resolved(self, concept: ConceptLike) -> ResolvedConcept:
        """The concept's atoms in the capture's vocabulary."""
        return resolve(
            as_concept(concept),
            self.acts.tokenizer,
            multi_token=self._multi_token,
            variants=bool(self._about["variants"]),
            vocabulary_size=len(self.unembedding),
        )

    def scores(
        self,
        sets: Sequence[AtomRows],
        *,
        view: Method | None = None,
        title: str = "",
        acts: HeadActivations | HeadMoments | None = None,
    ) -> Float[np.ndarray, "g l h"]:
        """Look at every head for each of several sets of atoms, those of small sets in one pass.

        Args:
            sets: for every set the token ids of each of its atoms.
            view: explained variance (``somp``) or mean logit (``logit_lens``); the method's own when left out.
            title: what the progress bar says; none is shown when empty.
            acts: a part of the capture in its place.

        Returns:
            Shape ``(g, l, h)``; NaN where a layer has no such head.
        """
        acts = self.acts if acts is None else acts
        view = as_method(view or self.method)
        scores = np.full((len(sets), *acts.shape), np.nan)
        if self.engine.name != "local" and view != LOGIT_LENS:  # which is one product a layer
            sent, own = self.sent(sets)
            work = partial(_layer_scores, scorer=sent, sets=own)
            shown = bool(self.progress and title)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EarlyStopWarning)
                for layer, given in layer_by_layer(acts, acts.layers, work, engine=self.engine, title=title, progress=shown):
                    scores[:, layer, : acts.head_counts[layer]] = given
            return scores
        size = 1 if max(map(len, sets)) > SMALL else _SETS
        parts = [slice(start, start + size) for start in range(0, len(sets), size)]
        with (
            tqdm(total=len(parts) * len(acts.layers), desc=title, disable=not (self.progress and title), leave=False) as bar,
            warnings.catch_warnings(),
        ):
            # A head whose variance a few atoms explain to the end has its score; nothing is amiss.
            warnings.simplefilter("ignore", EarlyStopWarning)
            for part in parts:
                distinct = dict.fromkeys(row for rows in sets[part] for row in rows)
                index_of = {row: index for index, row in enumerate(distinct)}
                atoms = gather_atoms(self.unembedding, list(distinct))
                dictionaries = [[index_of[row] for row in rows] for rows in sets[part]]
                tokens = [list(dict.fromkeys(token for row in rows for token in row)) for rows in sets[part]]
                for layer, count in acts.head_counts.items():
                    if view == LOGIT_LENS:
                        found = _mean_logits(acts, layer, self.unembedding, tokens)
                    else:
                        found = self._explained(acts, layer, atoms, dictionaries)
                    scores[part, layer, :count] = found.cpu().numpy()
                    bar.update()
        return scores

    def sent(self, sets: Sequence[AtomRows]) -> tuple["Scorer", list[AtomRows]]:
        """The scorer as it goes to workers: no capture, and of the unembedding the rows of some sets; and those, by new ids."""
        tokens = sorted({token for rows in sets for row in rows for token in row})
        place = {token: index for index, token in enumerate(tokens)}
        sent = copy.copy(self)
        sent.unembedding = self.unembedding[tokens].cpu()
        sent.engine, sent.progress, sent.acts = LOCAL, False, None  # type: ignore[assignment]
        return sent, [tuple(tuple(place[token] for token in row) for row in rows) for rows in sets]

    def ranking(
        self,
        resolved: ResolvedConcept,
        scores: Float[np.ndarray, "l h"],
        values: Mapping[str, Float[np.ndarray, "l h"]] | None = None,
        **about: Any,
    ) -> HeadRanking:
        """Scores, and values beside them, with what is needed to know and repeat them; ``about`` is told, too."""
        return HeadRanking(
            scores=scores,
            concept=resolved.name,
            method=self.method,
            words=resolved.labels,
            n=self.acts.n,
            positions=self.acts.positions,
            model=self.acts.model,
            about={**self._about, **about, **self.acts.about},
            values=values or {},
        )

    def _explained(
        self, acts: HeadActivations | HeadMoments, layer: int, atoms: Float[Tensor, "v d"], dictionaries: list[list[int]]
    ) -> Float[Tensor, "g h"]:
        steps = min(self._n_atoms, max(map(len, dictionaries)))
        if len(dictionaries) > 1:
            many = somp_capture_many(acts, layer, atoms, dictionaries, n_atoms=steps, criterion=self.criterion)
            return many.explained_variance[:, :, -1]
        heads = range(acts.head_counts[layer])
        found = somp_capture(acts, layer, atoms, heads=heads, n_atoms=steps, criterion=self.criterion)
        return found.explained_variance[None, :, -1]


def _layer_scores(part: Layer, *, scorer: Scorer, sets: Sequence[AtomRows]) -> Float[np.ndarray, "g h"]:
    layer, acts = part
    return scorer.scores(sets, view="somp", acts=acts)[:, layer]


def _mean_logits(
    acts: HeadActivations | HeadMoments, layer: int, unembedding: Float[Tensor, "v d"], tokens: list[list[int]]
) -> Float[Tensor, "g h"]:
    distinct = sorted({token for one in tokens for token in one})
    column = {token: index for index, token in enumerate(distinct)}
    logits = mean_logits(acts.mean(layer), acts.weights.projection(layer), unembedding[distinct])
    return torch.stack([logits[:, [column[token] for token in one]].mean(dim=1) for one in tokens])
