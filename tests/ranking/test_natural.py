"""The natural gradient: Fisher information against the divergence's curvature, and edits that follow it."""

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.activations.measures import Divergence
from headpursuit.ranking.natural import fisher_information

COLOURS = ["red", "white", "blue", "black", "pink", "grey"]
SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="black tea"),
]
NEUTRAL = ["a dog runs over three green hills in May", "two happy cats sleep", "the sun is over the hills and far"]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    model = tiny.tiny(request.param)
    model.hf.double()
    yield model
    model.hf.float()


def test_fisher_information_is_the_divergence_s_curvature(model):
    """Of the mean over texts of unlike lengths the divergence takes means of means, so that one text is compared."""
    text = [hp.Sample(text=NEUTRAL[0], chat=False)]
    found = fisher_information(model, text, passes=400)
    divergence, step = Divergence(model, text), 0.05
    for head in model.anatomy.heads():
        curved = []
        for sign in (-1, 1):
            with hp.HeadEdit([head], scale=1 + sign * step).applied(model):
                curved.append(divergence(model) / step**2)
        assert found[head.layer, head.head] == pytest.approx(2 * np.mean(curved), rel=0.35)


def test_steps_are_derivative_over_fisher_information_and_edits_follow_them(model):
    ranking = hp.select(model, SAMPLES, COLOURS, method="natural", neutral=NEUTRAL, progress=False)
    derivative, fisher, step = (ranking.values[name] for name in ("derivative", "fisher", "step"))
    plain = hp.select(model, SAMPLES, COLOURS, method="attribution", progress=False)
    np.testing.assert_allclose(derivative, plain.scores, rtol=1e-6)
    floor = np.maximum(fisher, 0.25 * np.nanmedian(fisher))
    np.testing.assert_allclose(step, derivative / floor)
    np.testing.assert_allclose(ranking.scores, derivative / np.sqrt(floor))
    edit = ranking.edit(4, scale=-1)
    by_size = sorted(ranking.order(), key=lambda head: -abs(ranking.score(head)))
    assert set(edit.heads) == set(by_size[:4])
    scales = {factor.head: factor.scale for factor in edit.factors}
    largest = max(edit.heads, key=lambda head: abs(step[head.layer, head.head]))
    assert abs(scales[largest] - 1) == pytest.approx(2)
    for head, scale in scales.items():
        assert scale == pytest.approx(1 - 2 * step[head.layer, head.head] / abs(step[largest.layer, largest.head]), rel=1e-6)
    assert hp.HeadRanking.from_dict(ranking.to_dict()).edit(4, scale=-1) == edit


def test_a_small_step_along_it_beats_one_along_the_derivative_at_equal_divergence(model):
    """To first order it is the best of all edits; with few heads their changes hardly meet."""
    ranking = hp.select(model, SAMPLES, COLOURS, method="natural", neutral=NEUTRAL, passes=50, progress=False)
    count = len(model.anatomy.heads())
    samples = [hp.Sample(text=text, chat=False) for text in NEUTRAL]
    divergence = Divergence(model, samples)
    gains = {}
    for name, steps in (("natural", ranking.values["step"]), ("derivative", ranking.values["derivative"])):
        largest = np.nanmax(np.abs(steps))
        heads = model.anatomy.heads()
        scales = [1 - 0.2 * steps[head.layer, head.head] / largest for head in heads]
        moved = sum(
            (scale - 1) * ranking.values["derivative"][head.layer, head.head] for head, scale in zip(heads, scales, strict=True)
        )
        with hp.HeadEdit(heads, scale=scales).applied(model):
            gains[name] = -moved / np.sqrt(divergence(model))
    assert count == len(heads)
    assert gains["natural"] > gains["derivative"]


def test_draws_follow_the_seed(model):
    one, same, other = (fisher_information(model, NEUTRAL, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_other_rankings_edit_their_best_heads_alike(model):
    ranking = hp.select(model, SAMPLES, COLOURS, method="attribution", progress=False)
    assert ranking.edit(2, scale=0) == hp.HeadEdit(ranking.top(2), scale=0)
    assert ranking.edit() == hp.HeadEdit(ranking.top(ranking.few()), scale=-1)
    with pytest.raises(hp.HeadPursuitError, match="k=0"):
        ranking.edit(0)


def test_neutral_texts_with_the_concept_do_not_count(model):
    with pytest.raises(hp.HeadPursuitError, match="every text speaks of the concept"):
        hp.select(model, SAMPLES, COLOURS, method="natural", neutral=["a red dog", "the black tea"], progress=False)
    found = hp.select(model, SAMPLES, COLOURS, method="natural", neutral=[*NEUTRAL, "a red dog"], progress=False)
    assert found == hp.select(model, SAMPLES, COLOURS, method="natural", neutral=NEUTRAL, progress=False)
