"""Recipes run by workers of Ray are those of one process, and a cell that workers die of leaves all others."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.engines import Engine, held
from headpursuit.evaluation.cells import Cells, Task
from headpursuit.evaluation.evaluate import evaluate
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.recipe import load_recipe

ray = pytest.importorskip("ray")

TWO = Engine("ray", workers=2)
EDITS = [hp.HeadEdit([f"L1.H{head}"], scale=-1) for head in range(3)]


@pytest.fixture(scope="module")
def workers():
    """Two workers for all tests, on a cluster of their own."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with held(TWO) as engine:
        yield engine
    ray.shutdown()


@pytest.fixture(scope="module")
def demo():
    return hp.load("demo", device="cpu")


def small(name, **edit):
    made = load_recipe(name)
    edit = {"k": (1,), "draws": 2, "scales": (-1.0, 3.0), **edit}
    return made.model_copy(update={"edit": made.edit.model_copy(update=edit)})


def stored(folder):
    """What a run leaves behind, but for the seconds that it took."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text())
        for name in ("seconds", "sha256"):
            content.pop(name, None)
        found[str(path.relative_to(folder))] = content
    return found


def test_a_recipe_gives_the_same_numbers_files_and_verdicts(workers, demo, tmp_path):
    recipe = small("demo-digits")
    options = {"limit": 8, "seed": 1, "progress": False}
    alone = evaluate(recipe, demo, out=tmp_path / "alone", **options)
    found = evaluate(recipe, demo, out=tmp_path / "two", engine=workers, **options)
    assert found.rows == alone.rows
    assert found.comparisons == alone.comparisons
    assert found.concepts[0].verdicts == alone.concepts[0].verdicts
    assert stored(tmp_path / "two") == stored(tmp_path / "alone")
    again = evaluate(recipe, demo, out=tmp_path / "two", engine=Engine("ray", workers=99, cpus_per_worker=99), **options)
    assert again.rows == alone.rows, "what is there needs no workers"


def writing():
    samples = [hp.Sample(text=text, chat=False) for text in tiny.TEXTS]
    options = {"max_new_tokens": 4, "min_new_tokens": 4}

    def score(answers):
        return {"letters a": np.array([1.0 + answer.count("a") for answer in answers])}

    return Task("writing", samples, (Metric("writing", "letters a"),), score, options)


def dying():
    def measure(model):
        if model.hf.model.layers[1].self_attn.o_proj._forward_pre_hooks:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"one": np.ones(1)}

    return Task("dying", [hp.Sample(text="two cats", chat=False)], (Metric("dying", "one"),), measure=measure)


def test_a_cell_that_workers_die_of_is_named_and_all_others_are_kept(workers, tmp_path):
    tasks = {task.name: task for task in (writing(), dying())}
    model = tiny.tiny("llama")
    cells = Cells(model, tasks, seed=0, folder=tmp_path, engine=workers)
    wanted = [(task, edit) for edit in (None, *EDITS[:1]) for task in ("dying", "writing")]
    with pytest.raises(
        hp.HeadPursuitError, match=r"dying: L1.H0 × -1: 3 workers died of it \(.*all other cells were run"
    ) as caught:
        cells.fill(wanted)
    assert "\n" not in str(caught.value)
    assert [cells.is_known(*key) for key in wanted] == [True, True, False, True]
    alone = Cells(model, tasks, seed=0)
    for edit in (None, EDITS[0]):
        assert cells.answers("writing", edit) == alone.answers("writing", edit)


def test_what_workers_warn_of_is_said_here(workers):
    long = Task("long", [hp.Sample(text="red " * 50, chat=False)], (), lambda answers: {}, {"max_new_tokens": 200})
    with pytest.warns(UserWarning, match="leave less room than 200 new tokens"):
        Cells(tiny.tiny("llama"), {"long": long}, seed=0, engine=workers).fill([("long", None)])


def test_workers_load_a_model_once_for_all_that_they_are_asked(workers, checkpoint):
    def which(model):
        return {"which": np.array([os.getpid(), id(model.hf)])}

    tasks = {name: Task(name, [hp.Sample(text=name)], (), measure=which) for name in ("first", "second")}
    cells = Cells(hp.load(checkpoint, device="cpu"), tasks, seed=0, engine=workers)
    for name in tasks:
        cells.fill((name, edit) for edit in EDITS)
    seen = {tuple(cells.cell(name, edit).scores["which"]) for name in tasks for edit in EDITS}
    assert len(seen) == len({pid for pid, _ in seen}) <= 2
    assert os.getpid() not in {pid for pid, _ in seen}
