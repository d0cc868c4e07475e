"""The protocol on a tiny random model: every row is there, right, and beside its control."""

from __future__ import annotations

import json

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.evaluation.cells import Bench, Measure, Task
from headpursuit.evaluation.metrics import count_words
from headpursuit.evaluation.protocol import Enhancement, Experiment, run_experiment
from headpursuit.evaluation.results import Results, find

CONCEPT = hp.Concept("letters", words=["a", "e", "t", "r", "n", "d"])
MEASURE, LENGTH = Measure("writing", "letters"), Measure("writing", "length")


def score(answers):
    return {
        "letters": np.array([sum(answer.count(word) for word in CONCEPT.words) for answer in answers], dtype=float),
        "length": np.array([1.0 + len(answer.split()) for answer in answers]),
    }


def task(texts):
    return Task("writing", [hp.Sample(text=text) for text in texts], score, {"max_new_tokens": 8, "min_new_tokens": 8})


@pytest.fixture(scope="module")
def outcome():
    model = tiny.tiny("llama")
    words = tiny.WORDS.split()
    selection = Bench(model, {"writing": task([" ".join(words[i : i + 4]) for i in range(0, 24, 2)])}, seed=0)
    test = Bench(model, {"writing": task([" ".join(words[i : i + 3]) for i in range(1, 24, 2)])}, seed=0)
    experiment = Experiment(
        concept=CONCEPT,
        target=MEASURE,
        kept=(LENGTH,),
        positions="mean",
        at_most=0.0,
        enhancement=Enhancement(target=MEASURE, quality=LENGTH, scales=(2.0, 4.0)),
    )
    return run_experiment(experiment, selection=selection, test=test, ks=(1, 2), draws=4, seed=1), test


def test_every_number_stands_beside_its_controls(outcome):
    result, _ = outcome
    for metric in ("letters", "length"):
        assert len(find(result.rows, metric=metric, selection="none")) == 1
        for method in ("somp", "logit_lens"):
            assert {row.k for row in find(result.rows, metric=metric, selection=method, scale=-1.0)} == {1, 2}
        assert len(find(result.rows, metric=metric, selection="random")) == 2  # suppressed and enhanced
    assert all(row.n == 12 and row.seed == 1 for row in result.rows)
    assert all(row.normalized == 1 for row in find(result.rows, selection="none"))


def test_rows_are_the_edited_models_own(outcome):
    result, test = outcome
    row = find(result.rows, metric="letters", selection="somp", k=2, scale=-1.0)[0]
    plain = test.model.generate(list(test.tasks["writing"].samples), max_new_tokens=8, min_new_tokens=8)
    with hp.HeadEdit(result.rankings["somp"].top(2), scale=-1).applied(test.model):
        edited = test.model.generate(list(test.tasks["writing"].samples), max_new_tokens=8, min_new_tokens=8)
    assert row.value == pytest.approx(score(edited)["letters"].mean())
    assert row.normalized == pytest.approx(score(edited)["letters"].mean() / score(plain)["letters"].mean())


def test_a_control_row_is_the_median_with_its_quartiles(outcome):
    result, test = outcome
    row = find(result.rows, metric="letters", selection="random", scale=-1.0)[0]
    draws = hp.random_controls(result.heads, test.model.anatomy.heads(), draws=4, seed=1)
    values = [test.value(MEASURE, hp.HeadEdit(heads, scale=-1)) for heads in draws]
    base = test.value(MEASURE, None)
    assert row.value == pytest.approx(np.median(values))
    assert (row.q25, row.normalized, row.q75) == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75]) / base))


def test_what_was_missed_is_said(outcome):
    result, _ = outcome
    reached = find(result.rows, metric="letters", selection="somp", k=result.k, scale=-1.0)[0].normalized
    assert reached > 0
    assert any(f"suppression reached {reached:.2f}" in miss for miss in result.misses)


def test_results_are_written_tidily(outcome, tmp_path):
    import pandas as pd

    result, test = outcome
    Results(recipe="r", model=test.model.identity, versions={"v": "1"}, rows=result.rows).save(tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert {"recipe", "model", "versions", "rows"} <= set(stored)
    keys = {"task", "concept", "selection", "k", "scale", "metric", "value", "normalized", "q25", "q75", "n", "seed"}
    assert all(set(row) == keys | {"change", "low", "high", "where"} for row in stored["rows"])
    assert len(pd.read_csv(tmp_path / "results.csv")) == len(stored["rows"])


def test_a_target_that_is_never_said_is_refused():
    model = tiny.tiny("llama")
    never = Task(
        "writing",
        [hp.Sample(text=text) for text in tiny.TEXTS],
        lambda a: {"x": np.zeros(len(a))},
        {"max_new_tokens": 2},
    )
    bench = Bench(model, {"writing": never}, seed=0)
    experiment = Experiment(concept=CONCEPT, target=Measure("writing", "x"), kept=(), positions="mean", at_most=0.3)
    with pytest.raises(hp.HeadPursuitError, match="letters: the unedited model scores 0 on x"):
        run_experiment(experiment, selection=bench, test=bench, ks=(1,))


def test_the_concept_metric_counts_what_the_paper_counts():
    assert count_words("three red dogs and two Red cats", ("red", "blue")) == 2
