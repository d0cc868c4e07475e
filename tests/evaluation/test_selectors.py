"""The comparison of ways to choose heads: run for real on the demo, against direct measurement, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.activations.measures import Divergence, contrast_measure
from headpursuit.data.demo import demo_records
from headpursuit.evaluation.evaluate import gather
from headpursuit.evaluation.recipe import load_recipe
from headpursuit.evaluation.selectors import TaskMetric
from headpursuit.ranking.equal_cost import effect_at
from headpursuit.report.tables import tables

METHODS = [
    "calibrated",
    "attribution",
    "natural",
    {"method": "knockout", "options": {"order": "effect_per_cost", "share": 0.1}, "name": "sets"},
]
TASKS = [{"name": "captioning", "data": "demo-captions", "limit": 10, "max_new_tokens": 12}]
WORDS = {"words": "colours", "task": "captioning", "positions": "answer", "limit": 12}
SELECT = {"methods": METHODS, "k": [1, 2], "scales": [0.0, -1.0], "costs": [0.1, 0.4], "budget": 21, "draws": 2}
TEXTS = {"name": "countries", "positive": "asked", "negative": "other", "limit": 10}


def recipe(**changes):
    content = {
        "title": "choices",
        "model": "demo",
        "neutral": "demo-facts",
        "tasks": TASKS,
        "concepts": [WORDS],
        "select": SELECT,
    }
    return {**content, **changes}


def pairs(name):
    return [hp.Sample(text=one.text, target=one.answers[0]) for one in demo_records(name, split="selection", limit=40, seed=0)]


@pytest.fixture(scope="module")
def model():
    return hp.load("demo", device="cpu")


@pytest.fixture(scope="module")
def sets():
    asked = pairs("demo-countries")
    return {"asked": asked, "other": [one for one in pairs("demo-facts") if one not in asked]}


@pytest.fixture(scope="module")
def found(model, sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    made = recipe(concepts=[WORDS, TEXTS])
    return hp.evaluate(made, model, data=sets, limit=12, out=out, progress=False), made, out


def test_every_way_has_a_curve_for_every_concept(found):
    results, *_ = found
    assert [(one.concept, one.method) for one in results.curves] == [
        (concept, method)
        for concept in ("colours", "countries")
        for method in ("calibrated", "attribution", "natural", "sets", "random")
    ]
    for one in results.curves:
        assert [(point.k, point.scale) for point in one.points] == [(1, 0.0), (1, -1.0), (2, 0.0), (2, -1.0)]
        assert one.kind == "suppress"
        for at in one.at_costs:
            assert 0 <= at.low <= at.high
        assert one.at_costs[0].effect <= one.at_costs[1].effect
        if one.method != "random":
            assert len(one.heads) == 2
            assert one.stability in (0, 0.5, 1)
    assert all(one.at_costs[0].ahead == 0 for one in results.curves if one.method == "calibrated")
    costs = {one.method: (one.forward, one.backward) for one in results.curves if one.concept == "colours"}
    assert costs["calibrated"] == (1, 0)
    assert costs["attribution"] == (1, 1)
    n = results.concepts[0].rankings["natural"].n  # those of the samples that speak of the concept
    assert costs["natural"] == pytest.approx((1 + 2 * 12 / n, 1 + 2 * 12 / n))
    # The unedited model and twenty sets; on neutral texts once more, for what the model says of itself.
    assert costs["sets"] == pytest.approx((21 + 22 * 12 / n, 0))


def test_points_are_those_that_are_measured_directly(found, model, sets):
    results, made, _ = found
    prepared = gather(load_recipe(made), model, data=sets, limit=12)
    divergence = Divergence(model, prepared.neutral)
    texts = prepared.concepts[1].counted.texts
    contrast = contrast_measure(texts.with_, texts.without)
    assert not set(texts.with_) & set(prepared.concepts[1].concept.texts.with_)
    curve = next(one for one in results.curves if (one.concept, one.method) == ("countries", "natural"))
    before = contrast(model)
    for point in curve.points:
        with results.concepts[1].rankings["natural"].edit(point.k, scale=point.scale).applied(model):
            assert point.effect == pytest.approx(before - contrast(model), abs=1e-4)
            assert point.cost == pytest.approx(divergence(model), abs=1e-4)
    effects, costs = (np.array([[getattr(one, name) for one in curve.points]]).reshape(2, 2) for name in ("effect", "cost"))
    assert curve.at_costs[1].effect == pytest.approx(effect_at(effects, costs, 0.4))


def test_results_are_kept_and_shown(found):
    results, _, out = found
    assert hp.Results.load(out) == results
    assert len(results.curves_frame()) == 10 * 4
    overall, *each = tables(results)
    assert overall.frame["method"].tolist() == ["calibrated", "attribution", "natural", "sets", "random"]
    assert [one.title for one in each] == [
        "Suppress colours: nats at equal cost",
        "Suppress countries: nats a token at equal cost",
    ]
    assert "10 curves of colours, countries" in repr(results)


def test_a_run_again_reads_what_is_kept(found, model, sets):
    results, made, out = found
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.name != "results.json"}
    again = hp.evaluate(made, model, data=sets, limit=12, out=out, progress=False)
    assert again == results
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.name != "results.json"} == files


RUN = """
import json, sys
import headpursuit as hp
results = hp.evaluate(json.loads(sys.argv[1]), "demo", limit=8, out=sys.argv[2], progress=False)
print(json.dumps(results.to_dict()["curves"], sort_keys=True))
"""


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    made = json.dumps(recipe(select={**SELECT, "halves": False}))
    words = [sys.executable, "-c", RUN, made, str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "run").glob("knock-outs/*.json"))) < 5:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "run" / "results.json").exists()
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")}
    ends = [
        subprocess.run([*words[:-1], str(tmp_path / name)], env=environment, check=True, capture_output=True, text=True).stdout
        for name in ("run", "other")
    ]
    first, second = ({(one["concept"], one["method"]): one for one in json.loads(end)} for end in ends)
    for key, one in first.items():
        assert {**one, "seconds": 0} == {**second[key], "seconds": 0}
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_enhancing_and_a_metric_that_is_generated(model):
    select = {
        **SELECT,
        "methods": ["attribution", {"method": "knockout", "options": {"share": 0.1}}],
        "scales": [4.0],
        "k": [1],
    }
    made = recipe(concepts=[{**WORDS, "target": "written words", "name": "written"}], select=select)
    results = hp.evaluate(made, model, limit=4, progress=False)
    assert {(one.kind, one.unit) for one in results.curves} == {("enhance", "words an answer")}
    prepared = gather(load_recipe(made), model, limit=4)
    task = prepared.selection["written"]
    metric = TaskMetric(task, next(one for one in task.metrics if one.name.endswith("words")), 0)
    texts = model.generate(list(task.samples), **task.options)
    assert metric(model) == pytest.approx(np.mean(task.score(texts)[metric.name]))
    assert all(one.stability is None for one in results.curves)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"select": {**SELECT, "budget": 1}}, "select.budget: attribution needs 2 passes, 1 are allowed"),
        ({"select": {**SELECT, "methods": ["knockout"], "budget": 20}}, "select.budget: knockout needs 21 passes"),
        ({"select": {**SELECT, "methods": ["fusion"], "budget": 5}}, "select.budget: fusion needs 6 passes"),
        ({"select": {**SELECT, "k": [121]}}, "select.k: there are 120 heads, no 121"),
        ({"select": {**SELECT, "methods": ["magic"]}}, "select.methods[0]: method 'magic': choose among"),
        ({"select": {**SELECT, "methods": ["somp", "somp"]}}, "methods: name each once"),
        (
            {"select": {**SELECT, "methods": [{"method": "somp", "options": {"masks": 3}}]}},
            "select.methods: somp takes no masks",
        ),
        ({"select": {**SELECT, "scales": [1.0]}}, "scales: 1 changes nothing"),
        ({"select": {**SELECT, "costs": [0.0]}}, "select.costs[0]"),
        ({"edit": {"k": [1]}}, "select: stands beside [edit]"),
        ({"concepts": [{"positive": "asked"}]}, "concepts[0]: give positive and negative, both"),
        ({"concepts": [{**TEXTS, "words": "colours"}]}, "both, and leave words out"),
        ({"concepts": [{**TEXTS, "negative": "nowhere.txt"}]}, "concepts[0].negative: there is no file nowhere.txt"),
        ({"concepts": [{**TEXTS, "negative": "asked"}]}, "concepts[0].positive: 40 texts are in both sets"),
        ({"concepts": [{**TEXTS, "limit": 3}]}, "half of the texts: 3 different texts with the concept"),
        ({"tasks": []}, "tasks: there is none"),
    ],
)
def test_what_cannot_be_compared_is_one_line(model, sets, changes, message):
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.evaluate(recipe(**changes), model, data=sets, limit=12, progress=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_texts_are_for_a_comparison_alone(model, sets):
    made = {**recipe(concepts=[TEXTS]), "select": None, "edit": {"k": [1]}}
    with pytest.raises(hp.HeadPursuitError, match=r"texts are for a recipe with \[select\]"):
        hp.evaluate(made, model, data=sets, progress=False)
