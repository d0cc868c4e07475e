"""Head sets side by side, and concepts over all heads."""

from __future__ import annotations

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.ranking.overlap import jaccard

CONCEPTS = [
    hp.Concept("colours", words=["red", "blue", "yellow", "green"]),
    hp.Concept("animals", words=["cats", "dog"]),
    hp.Concept("drinks", words=["tea", "cups"]),
]


def test_jaccard_by_hand():
    a, b, c, d = (hp.Head(0, index) for index in range(4))
    table = hp.head_overlap({"x": [a, b, c], "y": [c, b], "z": [d], "none": []})
    expected = [[1, 2 / 3, 0, 0], [2 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(table.to_numpy(), expected)
    assert list(table.index) == list(table.columns) == ["x", "y", "z", "none"]
    assert jaccard([a, a, b], [b, a]) == 1
    with pytest.raises(hp.HeadPursuitError, match="at least two"):
        hp.head_overlap({"x": [a]})


@pytest.mark.parametrize("method", ["somp", "logit_lens"])
def test_a_map_is_the_rankings_one_by_one(acts, method):
    found = hp.concept_map(acts, CONCEPTS, method=method, n_atoms=3, progress=False)
    for concept, scores in zip(CONCEPTS, found.scores, strict=True):
        ranking = hp.rank(acts, concept, method=method, n_atoms=3, progress=False)
        np.testing.assert_allclose(scores, ranking.scores, rtol=1e-6, atol=1e-6)
        assert found.to_frame().loc[concept.name, ranking.top(1)[0].name] == pytest.approx(scores.max())
    assert list(found.to_frame()) == [head.name for head in acts.heads()]
    with pytest.raises(hp.HeadPursuitError, match="has no z"):
        found.to_frame("z")


def test_z_of_a_map_is_that_of_each_concept(acts):
    found = hp.concept_map(acts, CONCEPTS[:2], n_atoms=2, draws=12, seed=3, progress=False)
    for concept, z in zip(CONCEPTS, found.to_frame("z").to_numpy(), strict=False):
        tested = hp.significance(acts, concept, method="somp", n_atoms=2, draws=12, seed=3, progress=False)
        np.testing.assert_array_equal(z, tested.z.ravel())


def test_names_must_tell_concepts_apart(acts):
    for wrong in ([], [CONCEPTS[0], CONCEPTS[0]]):
        with pytest.raises(hp.HeadPursuitError, match="a name of its own"):
            hp.concept_map(acts, wrong, progress=False)


def test_a_map_draws_z_where_it_has_it(acts):
    def title(found):
        return " ".join(text.get_text() for text in found.plot().axes[0].texts)

    plain = hp.concept_map(acts, CONCEPTS[:2], n_atoms=2, progress=False)
    assert "lines do not compare" in title(plain)
    assert "z of explained variance" in title(hp.concept_map(acts, CONCEPTS[:2], n_atoms=2, draws=12, progress=False))
