"""What others make of an export: transformers' pipelines, PEFT's loading, and lm-evaluation-harness."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

import headpursuit as hp
import tiny
from exporting import saved
from headpursuit.demo import demo_samples

EDIT = hp.HeadEdit(["L0.H1", "L1.H2", "L2.H3"], scale=-1)
OPTIONS = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved.save("llama", tmp_path_factory.mktemp("llama"), torch.float32)


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "out"
    hp.export(folder, EDIT, out, progress=False)
    return out


def test_transformers_generates_from_the_export(folder, out):
    model = hp.load(folder)
    with EDIT.applied(model):
        hooked = model.generate(list(tiny.TEXTS), max_new_tokens=6, do_sample=False)
    assert hooked != model.generate(list(tiny.TEXTS), max_new_tokens=6, do_sample=False)
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    for text, expected in zip(tiny.TEXTS, hooked, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        new = plain.generate(**ids, **OPTIONS)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True) == expected
    pipe = pipeline("text-generation", model=str(out), device="cpu")
    found = [pipe(text, return_full_text=False, **OPTIONS)[0]["generated_text"] for text in tiny.TEXTS]
    assert found == hooked


def test_a_pipeline_captions_with_the_exported_demo(tmp_path):
    model = saved.demo()
    edit = hp.HeadEdit(saved.some_heads(model), scale=-1)
    hp.export(model, edit, tmp_path / "out", progress=False)
    sample = demo_samples("caption", "test", limit=1)[0]
    with edit.applied(model):
        expected = model.generate(hp.Sample(sample.text, image=sample.image), max_new_tokens=12, do_sample=False)
    pipe = pipeline("image-text-to-text", model=str(tmp_path / "out"), device="cpu")
    content = [{"type": "image", "image": sample.image}, {"type": "text", "text": sample.text}]
    written = pipe(
        text=[{"role": "user", "content": content}],
        max_new_tokens=12,
        return_full_text=False,
        generate_kwargs={"do_sample": False},
    )
    assert written[0]["generated_text"].strip() == expected.strip()


@pytest.mark.parametrize("format", ["lora", "ia3"])
def test_an_adapter_travels_with_a_pipeline(folder, format, tmp_path):
    peft = pytest.importorskip("peft")
    hp.export(folder, EDIT, tmp_path / "adapter", format=format, progress=False)
    model = hp.load(folder)
    with EDIT.applied(model):
        hooked = model.generate(tiny.TEXTS[0], max_new_tokens=6, do_sample=False)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")  # finds the base by its own record
    merged = adapted.merge_and_unload()
    pipe = pipeline("text-generation", model=merged, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu")
    assert pipe(tiny.TEXTS[0], return_full_text=False, **OPTIONS)[0]["generated_text"] == hooked


TASK = """
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
  cache_dir: {cache}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""


def test_an_evaluation_harness_runs_an_edited_model(folder, out, tmp_path, monkeypatch):
    """lm-evaluation-harness on the hooked object and on the exported folder: the same likelihoods, and those by hand."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    choices = ["red", "blue", "seven cups"]
    documents = [{"question": text, "choices": choices, "answer": row % 3} for row, text in enumerate(tiny.TEXTS)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, documents)))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "colours.yaml").write_text(TASK.format(data=tmp_path / "data.jsonl", cache=tmp_path / "cache"))

    def likelihoods(lm) -> list[list[float]]:
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        results = lm_eval.simple_evaluate(model=lm, tasks=["colours"], task_manager=manager, bootstrap_iters=0)
        assert 0 <= results["results"]["colours"]["acc,none"] <= 1
        ordered = sorted(results["samples"]["colours"], key=lambda one: one["doc_id"])
        return [[response[0] for response in one["filtered_resps"]] for one in ordered]

    model = hp.load(folder)
    held = HFLM(pretrained=model.hf, tokenizer=model.tokenizer, batch_size=2)
    plain = likelihoods(held)
    with EDIT.applied(model):
        hooked = likelihoods(held)
        by_hand = [[_likelihood(model, text, choice) for choice in choices] for text in tiny.TEXTS]
    exported = likelihoods(HFLM(pretrained=str(out), device="cpu", batch_size=2))
    assert [one for row in hooked for one in row] == pytest.approx([one for row in exported for one in row], abs=1e-4)
    assert [one for row in hooked for one in row] == pytest.approx([one for row in by_hand for one in row], abs=1e-3)
    assert [one for row in hooked for one in row] != pytest.approx([one for row in plain for one in row], abs=1e-2)


def _likelihood(model: hp.HeadModel, text: str, choice: str) -> float:
    prompt = model.tokenizer(text)["input_ids"]
    whole = model.tokenizer(f"{text} {choice}")["input_ids"]
    with torch.no_grad():
        chances = model.hf(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(sum(chances[place - 1, whole[place]] for place in range(len(prompt), len(whole))))
