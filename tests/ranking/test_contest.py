"""The contest of cheap methods: its winner is the one whose edits, measured directly, move the target furthest."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.activations.measures import Divergence, log_odds_measure
from headpursuit.concepts import resolve
from headpursuit.ranking.contest import _measured
from headpursuit.ranking.equal_cost import effect_at

COLOURS = hp.Concept("colours", ("red", "white", "blue", "black", "pink", "grey"))
SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="black tea"),
    hp.Sample(text="the sun is over the hills and the sky is", target="blue"),
]
NEUTRAL = ["a dog runs over three green hills in May", "two happy cats sleep", "the sun is over the hills and far"]


@pytest.fixture(scope="module")
def model():
    return tiny.tiny("llama")


@pytest.mark.parametrize("scale", [-1.0, 3.0])
@pytest.mark.parametrize("cost", [1e-3, 0.5])
def test_the_winner_reaches_most_at_the_cost(model, scale, cost):
    ranking = hp.select(model, SAMPLES, COLOURS, neutral=NEUTRAL, k=2, cost=cost, scale=scale, progress=False)
    assert ranking.method == "contest"
    measure = log_odds_measure(SAMPLES, resolve(COLOURS, model.tokenizer).token_ids)
    divergence, before = Divergence(model, [hp.Sample(text=text, chat=False) for text in NEUTRAL]), measure(model)
    integrated = {"scale": scale, "steps": 4}
    options = {"attribution": {}, "natural": {"neutral": NEUTRAL}, "calibrated": {}, "integrated": integrated}

    def reach(*ways):
        moved, spent = np.zeros((len(ways), 3)), np.zeros((len(ways), 3))
        for row, edit in enumerate(ways):
            for column, part in enumerate((0.25, 0.5, 1.0)):
                with edit(scale=1 + part * (scale - 1)).applied(model):
                    moved[row, column] = (measure(model) - before) * (1 if scale > 1 else -1)
                    spent[row, column] = divergence(model)
        return float(effect_at(moved, spent, cost))

    rankings = {
        method: hp.select(model, SAMPLES, COLOURS, method=method, progress=False, **more) for method, more in options.items()
    }
    expected = {method: reach(*(partial(own.edit, k) for k in (1, 2))) for method, own in rankings.items()}
    candidates = {head for own in rankings.values() for head in own.top(4)}
    alone = {head: reach(partial(hp.HeadEdit, [head])) for head in candidates}
    best = sorted((head for head in alone if alone[head] > 0), key=lambda head: (-alone[head], head))
    best += [head for head in rankings["attribution"].order() if head not in best]
    expected["measured"] = reach(*(partial(hp.HeadEdit, best[:k]) for k in (1, 2)))
    assert ranking.about["reached"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    won = ranking.about["won"]
    if won == "attribution":
        assert max(expected.values()) <= 1.1 * expected[won] * (1 + 1e-6)
    else:
        assert expected[won] == max(expected.values()) > 1.1 * expected["attribution"]
    if won == "measured":
        assert list(ranking.top(2)) == best[:2]
        assert ranking.values["effect"][best[0].layer, best[0].head] == pytest.approx(alone[best[0]], rel=1e-3)
    else:
        assert ranking.edit(2) == rankings[won].edit(2)
        assert ranking.unit == rankings[won].unit


def test_measured_heads_stand_before_the_others():
    shared = {"words": (), "n": 1, "positions": "answer", "model": {}, "about": {}}
    attributed = hp.HeadRanking(np.array([[3.0, 2.0, 1.0, 0.5]]), concept="", method="attribution", **shared)
    heads = attributed.order()
    found = _measured(attributed, {heads[2]: 0.5, heads[1]: 0.0, heads[3]: 0.7})
    assert [head.name for head in found.order()] == ["L0.H3", "L0.H2", "L0.H0", "L0.H1"]  # one that reaches nothing is no best
    np.testing.assert_array_equal(found.values["effect"], [[np.nan, 0.0, 0.5, 0.7]])


def test_a_metric_of_one_s_own_and_texts_decide(model):
    def reds(model):
        return float(log_odds_measure(SAMPLES[:1], resolve(COLOURS, model.tokenizer).token_ids)(model))

    ranking = hp.select(model, SAMPLES, COLOURS, metric=reds, neutral=NEUTRAL, progress=False)
    assert set(ranking.about["reached"]) == {"calibrated", "attribution", "natural", "integrated", "measured"}
    concept = hp.Concept.from_texts(
        ["the blue dog sleeps", "a blue cat", "the blue sun", "tea and blue cups"],
        ["the dog sleeps", "a cat", "the sun", "tea and cups"],
    )
    ranking = hp.select(model, None, concept, neutral=["two happy cats run", "one sad clown drinks"], progress=False)
    assert ranking.n in (4, 8)  # texts with it for a capture, both sets for what runs the model


def test_a_goal_compares_edits_at_their_scale_and_grows_a_set(model):
    measure = log_odds_measure(SAMPLES, resolve(COLOURS, model.tokenizer).token_ids)
    divergence, told = Divergence(model, [hp.Sample(text=text, chat=False) for text in NEUTRAL]), []

    def judge(edits, *, done):
        found = {}
        for edit in edits:
            with edit.applied(model) if edit else nullcontext():
                found[edit] = measure(model), divergence(model)
            told.append(edit)
            done()
        return found

    ranking = hp.select(model, SAMPLES, COLOURS, neutral=NEUTRAL, k=3, cost=0.02, judge=judge, progress=False)
    assert len(told) == len(set(told))  # nothing is measured twice
    assert {factor.scale for edit in told if edit for factor in edit.factors} == {-1.0}
    assert set(ranking.about["reached"]) == {"calibrated", "attribution", "natural", "integrated", "measured", "grown"}
    found = judge(list(told), done=lambda: None)

    def reach(heads):
        value, cost = found[hp.HeadEdit(heads)]
        return max(0.0, (found[None][0] - value) * min(1.0, 0.02 / cost))

    alone = [edit.factors[0].head for edit in told if edit and len(edit.factors) == 1]
    pool = sorted(alone, key=lambda head: (-reach([head]), head))[:6]
    taken = []
    while len(taken) < 3:
        taken.append(max((head for head in pool if head not in taken), key=lambda head: reach([*taken, head])))
    grown = max(reach(taken[:k]) for k in (1, 2, 3))
    assert ranking.about["reached"]["grown"] == pytest.approx(grown, rel=1e-3)
    assert grown >= max(reach([head]) for head in alone) - 1e-6
    if ranking.about["won"] == "grown":
        assert list(ranking.top(3)) == taken
    best = {edit: reach([factor.head for factor in edit.factors]) for edit in told if edit}
    assert max(ranking.about["reached"].values()) == pytest.approx(max(best.values()), rel=1e-3)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (["the flag"], {}, "no target that could speak of the concept; give one, or choose method=calibrated"),
        (SAMPLES, {"cost": 0.0}, "cost=0.0: give a divergence above 0"),
        (SAMPLES, {"cost": float("nan")}, "cost=nan"),
        (SAMPLES, {"neutral": ["a red dog"]}, "every text speaks of the concept"),
        (SAMPLES, {"scale": 1.0}, "other than 1"),
    ],
)
def test_what_cannot_be_is_one_line(model, samples, options, message):
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.select(model, samples, COLOURS, progress=False, **{"neutral": NEUTRAL, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
