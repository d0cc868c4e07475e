"""Every recipe of the paper to its end, on tiny random models of its checkpoints' architectures, with data in official files.

Only sizes are changed: fewer heads, draws and samples, and words of several tokens are taken by their first token, since the
stand-in tokenizers know few words.
"""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

import tiny
import vlm
from data.official_files import write_data
from evaluation.test_toxicity import save as save_classifier
from headpursuit.evaluation.evaluate import evaluate
from headpursuit.evaluation.plan import count_cells
from headpursuit.evaluation.prepare import Source, prepare
from headpursuit.evaluation.recipe import load_recipe, recipe_names
from headpursuit.report import write_report

CONTEXT = 4096
TEXT = {"describe-heads", "qa-countries", "toxicity-rtp", "toxicity-tet"}
PAPER = [name for name in recipe_names() if not name.startswith("demo-")]
ARCHITECTURES = {
    "mistralai/Mistral-7B-Instruct-v0.2": "MistralForCausalLM",
    "llava-hf/llava-v1.6-mistral-7b-hf": "LlavaNextForConditionalGeneration",
    "llava-hf/llava-v1.6-vicuna-13b-hf": "LlavaNextForConditionalGeneration",
    "google/gemma-3-12b-it": "Gemma3ForConditionalGeneration",
    "Qwen/Qwen2.5-VL-7B-Instruct": "Qwen2_5_VLForConditionalGeneration",
}


def model_like(checkpoint):
    family = {
        "MistralForCausalLM": lambda: tiny.tiny("mistral", context=CONTEXT),
        "LlavaNextForConditionalGeneration": lambda: tiny.tiny("llava-next", context=CONTEXT),
        "Gemma3ForConditionalGeneration": lambda: vlm.vlm("gemma3", context=CONTEXT),
        "Qwen2_5_VLForConditionalGeneration": lambda: vlm.vlm("qwen2_5_vl", context=CONTEXT),
    }[ARCHITECTURES[checkpoint]]()
    assert family.source.architecture == ARCHITECTURES[checkpoint]
    return family


def shrunk(name, folder):
    """The recipe with everything that costs time made small."""
    recipe = load_recipe(name)
    classifier = str(save_classifier(folder / "classifier", ["neutral", "toxic"])) if name.startswith("toxicity") else ""
    tasks = [task.model_copy(update={"max_new_tokens": 2, "classifier": classifier}) for task in recipe.tasks]
    concepts = [
        spec.model_copy(update={"multi_token": "first" if spec.multi_token == "skip" else spec.multi_token})
        for spec in recipe.concepts
    ]
    scales = recipe.edit.scales[: 2 if len(recipe.concepts) == 1 else 1] if recipe.edit else ()
    edit = recipe.edit and recipe.edit.model_copy(update={"k": (1,), "draws": 2, "scales": scales})
    return recipe.model_copy(update={"tasks": tuple(tasks), "concepts": tuple(concepts), "edit": edit})


def run(name, checkpoint, folder):
    recipe = shrunk(name, folder)
    for data in {task.data for task in recipe.tasks}:
        write_data(data, folder / "data")
    prepared = prepare(recipe, Source(path=folder / "data", limit=2))
    out = folder / "out"
    results = evaluate(recipe, model_like(checkpoint), data=folder / "data", out=out, limit=2, progress=False)
    return prepared, results, out


@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_of_the_paper_runs_to_its_end(name, tmp_path):
    checkpoint = load_recipe(name).model
    assert checkpoint in ARCHITECTURES
    assert ARCHITECTURES[checkpoint] == ("MistralForCausalLM" if name in TEXT else "LlavaNextForConditionalGeneration")
    prepared, results, out = run(name, checkpoint, tmp_path)
    write_report(results, out)
    stored = json.loads((out / "results.json").read_text())
    assert (stored["recipe"], len(stored["rows"])) == (name, len(results.rows))
    assert (out / "tables.md").read_text().count("|") > 10
    if name == "describe-heads":
        assert len(stored["descriptions"]) == 2 * 12
        return
    frame = pd.read_csv(out / "results.csv")
    for aim in prepared.concepts:
        own = frame[(frame.concept == aim.name) & (frame.metric == aim.spec.target)]
        assert set(own.selection) == {"none", "somp", "logit_lens", "random"}
        assert set(frame[frame.concept == aim.name].task) == set(count_cells(prepared)) - {
            f"{other.name}, teacher-forced" for other in prepared.concepts if other is not aim
        }
    assert set(frame[frame.selection != "none"].scale) == set(prepared.recipe.edit.scales)
    assert all(math.isfinite(value) for value in frame.value)
    assert frame.metric.isin(["negative log-likelihood"]).any()
    assert list(out.glob("figures/*.svg"))
    assert len(list(out.glob("cells/*.json"))) <= sum(count_cells(prepared).values())


@pytest.mark.parametrize("checkpoint", load_recipe("classify-mnist").checkpoints[2:])
@pytest.mark.parametrize("name", ["classify-dtd", "caption-colors"])
def test_the_other_architectures_run_the_same_recipes(name, checkpoint, tmp_path):
    assert checkpoint in load_recipe(name).checkpoints
    _, results, _ = run(name, checkpoint, tmp_path)
    assert results.model["architecture"] == ARCHITECTURES[checkpoint]
    assert {row.selection for row in results.rows} == {"none", "somp", "logit_lens", "random"}
