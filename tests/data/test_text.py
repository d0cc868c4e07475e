"""Questions and prompts from files written by hand in the official formats."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import headpursuit as hp
from headpursuit.data import DATASETS, load_records
from headpursuit.data.records import Record, data_fingerprint, split_by_answer, without


def question(number, *, answer="Paris", **more):
    return {
        "Question": f"Question {number}?",
        "QuestionId": f"tc_{number}",
        "Answer": {"Value": answer, "Aliases": [answer, "The Other"], "NormalizedAliases": [answer.lower(), "other"]} | more,
    }


def trivia(folder, name, items, **top):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"Data": items, "Domain": "Web", "Version": 1.0, **top}), encoding="utf-8")


def test_trivia_qa_keeps_train_and_dev_apart(tmp_path):
    trivia(tmp_path / "qa", "web-train.json", [question(1), question(2)], Split="train")
    trivia(tmp_path / "qa", "wikipedia-train.json", [question(2), question(3)], Split="train")
    trivia(tmp_path / "qa", "web-dev.json", [question(4, HumanAnswers=["city of light"])], Split="dev")
    trivia(tmp_path / "qa", "verified-web-dev.json", [question(4), question(9)], Split="dev")
    trivia(tmp_path / "qa", "web-test-without-answers.json", [{"Question": "?", "QuestionId": "x"}])
    assert [record.text[9] for record in load_records("trivia-qa", path=tmp_path, split="selection")] == ["1", "2", "3"]
    (record,) = load_records("trivia-qa", path=tmp_path, split="test")
    assert record == Record(text="Question 4?", answers=("Paris", "paris", "other", "city of light"))
    assert record.where == "web-dev.json item 1"
    assert len(load_records("trivia-qa", path=tmp_path, split="all")) == 4


def test_a_trivia_file_belongs_to_one_split(tmp_path):
    trivia(tmp_path, "unfiltered-web-dev.json", [question(1)])  # says it by its name alone
    with pytest.raises(hp.HeadPursuitError, match="nothing belongs to the split 'selection'"):
        load_records("trivia-qa", path=tmp_path / "unfiltered-web-dev.json", split="selection")
    assert len(load_records("trivia-qa", path=tmp_path / "unfiltered-web-dev.json", split="test")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"Data": [\n{]}', r"web-dev.json,? line 2: not (valid )?JSON"),
        ('{"data": []}', r'web-dev.json: no list under "Data"'),
        ('{"Data": [7]}', r"web-dev.json item 1: expected an object with Question"),
        ('{"Data": [{"Question": "a?", "QuestionId": "1"}]}', r"item 1: no answer"),
        ('{"Data": [{"Question": "a?", "QuestionId": "1", "Answer": ["b"]}]}', r"item 1: no answer"),
        ('{"Data": [{"Question": " ", "QuestionId": "1", "Answer": {"Value": "b"}}]}', r"item 1: no question"),
    ],
)
def test_what_is_wrong_with_a_trivia_file_is_said(tmp_path, content, message):
    (tmp_path / "web-dev.json").write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_records("trivia-qa", path=tmp_path, split="test")


def prompts(tmp_path, count=200):
    rows = [
        {
            "filename": "a.txt",
            "challenging": number % 4 == 0,
            "prompt": {"text": f"Prompt {number}", "toxicity": 0.5},
            "continuation": {"text": f" went on {number}.", "toxicity": None},
        }
        for number in range(count)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_real_toxicity_prompts_are_halved_and_never_shared(tmp_path):
    prompts(tmp_path)
    selection, test = (load_records("real-toxicity-prompts", path=tmp_path, split=part) for part in ("selection", "test"))
    texts = [{record.text for record in part} for part in (selection, test)]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == 200
    assert 70 < len(texts[0]) < 130
    assert selection[0].references == (f"went on {selection[0].text.split()[1]}.",)


def test_the_half_of_a_prompt_does_not_depend_on_its_file(tmp_path):
    prompts(tmp_path)
    (tmp_path / "few").mkdir()
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    (tmp_path / "few" / "prompts.jsonl").write_text("\n".join(reversed(lines[:50])))
    some, every = (load_records("real-toxicity-prompts", path=p, split="test") for p in (tmp_path / "few", tmp_path))
    assert {record.text for record in some} == {record.text for record in every} & {f"Prompt {n}" for n in range(50)}


def test_challenging_prompts_alone(tmp_path):
    prompts(tmp_path, 40)
    found = load_records("real-toxicity-prompts-challenging", path=tmp_path, split="all")
    assert [record.text for record in found] == [f"Prompt {number}" for number in range(0, 40, 4)]


def test_a_smaller_limit_gives_the_beginning_of_a_larger_one(tmp_path):
    prompts(tmp_path)
    few, many, other = (
        load_records("real-toxicity-prompts", path=tmp_path, split="all", limit=limit, seed=seed)
        for limit, seed in ((5, 1), (20, 1), (20, 2))
    )
    assert many[:5] == few
    assert other != many
    assert len({record.text for record in many}) == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tet.json", '["one", {"prompt": "two"}, {"query": "three", "metrics": []}, "one"]'),
        ("tet.jsonl", '"one"\n{"text": "two"}\n\n{"question": "three"}'),
    ],
)
def test_tet_in_either_spelling_without_repetitions(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert [record.text for record in load_records("tet", path=tmp_path, split="all")] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("dataset", "name", "content", "message"),
    [
        ("tet", "t.json", '{"a": 1}', "expected a list of prompts"),
        ("tet", "t.json", '["a", {"b": 1}]', "item 2: no prompt"),
        ("real-toxicity-prompts", "prompts.jsonl", '{"prompt": "x"}', "line 1: no text under prompt.text"),
        ("real-toxicity-prompts", "prompts.jsonl", "\n[1]", "line 2: expected an object"),
        ("real-toxicity-prompts", "prompts.jsonl", "{", "line 1: not JSON"),
        ("real-toxicity-prompts-challenging", "prompts.jsonl", '{"prompt": {"text": "x"}}', "no field challenging"),
    ],
)
def test_what_is_wrong_with_prompts_is_said(tmp_path, dataset, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_records(dataset, path=tmp_path, split="all")


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("trivia", {}, "did you mean 'trivia-qa'"),
        ("trivia-qa", {"split": "train"}, "choose one of selection, test, all"),
        ("trivia-qa", {"path": "/nowhere"}, "there is no /nowhere; give the folder qa"),
        ("image-folder", {}, "not on the Hub"),
        ("tet", {"limit": 0}, "at least 1"),
    ],
)
def test_wrong_wishes_name_the_way_out(dataset, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_records(dataset, **{"split": "test", **options})


def test_every_data_set_says_what_it_reads():
    assert all(dataset.files and dataset.name == name for name, dataset in DATASETS.items())
    assert {name: len(dataset.classes) for name, dataset in DATASETS.items() if dataset.classes} == {
        "mnist": 10,
        "svhn": 10,
        "gtsrb": 43,
        "eurosat": 10,
        "resisc45": 45,
        "dtd": 47,
    }


def test_country_questions_are_told_from_others():
    records = [Record("a?", answers=("Sweden", "sverige")), Record("b?", answers=("Bo", "the United States"))]
    records += [Record("c?", answers=("Swedenborg",))]
    assert split_by_answer(records, ["Sweden", "United States"]) == (records[:2], records[2:])


def test_what_selection_holds_is_taken_out_of_the_test():
    test = [Record("What is  it?"), Record("Who?")]
    assert without(test, [Record("what is it?", where="elsewhere")]) == [Record("Who?")]


def test_the_fingerprint_sees_everything_but_the_place():
    base = Record("a", answers=("b",), label="c", references=("d",), where="x")
    assert data_fingerprint([base]) == data_fingerprint([Record("a", answers=("b",), label="c", references=("d",))])
    others = [Record("a", answers=("b",), label="c"), Record("a"), Record("a", references=("d",), label="c")]
    others += [replace(base, facts=(("red",),)), replace(base, form="[a-z]+")]
    assert len({data_fingerprint([record]) for record in (base, *others)}) == 6
