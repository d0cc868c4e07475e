"""The four tasks: what is asked, what is made of the answers, and what tells two results apart."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
import tiny
from headpursuit.data.records import Record
from headpursuit.evaluation import tasks
from headpursuit.evaluation.metrics import CIDER_TOKENISER

QUESTIONS = [
    Record("Capital of France?", answers=("Paris", "paris", "city of light"), where="q 1"),
    Record("Who {wrote} it?", answers=("Jane Austen",), where="q 2"),
]
IMAGES = [Record(image=Image.new("RGB", (16, 16), (shade, 0, 0)), label=name) for shade, name in ((9, "dog"), (99, "cat"))]
PICTURES = [
    Record(image=Image.new("RGB", (16, 16), (9, 0, 0)), references=("a red dog runs", "one dog")),
    Record(image=Image.new("RGB", (16, 16), (0, 9, 0)), references=("two blue cats sleep", "cats")),
]
COLOURS = hp.Concept("colours", words=["red", "blue"])


def test_questions():
    task = tasks.question_answering(QUESTIONS, template="Q: {text}\nA:", max_new_tokens=5)
    assert [sample.text for sample in task.samples] == ["Q: Capital of France?\nA:", "Q: Who {wrote} it?\nA:"]
    assert [sample.target for sample in task.samples] == ["Paris", "Jane Austen"]
    assert task.samples[1].where == "q 2"
    assert task.options == {"max_new_tokens": 5}
    scores = task.score(["The City of Light.\nQuestion: next", "austen"])
    assert scores["exact match"].tolist() == [1, 0]
    assert scores["F1"] == pytest.approx([1, 2 / 3])


def test_continuations():
    records = [Record("They went", references=("home at last.",)), Record("Then")]

    def classifier(texts):
        return np.array([0.9 if "idiot" in text else 0.5 for text in texts])

    task = tasks.toxic_continuation(records, template="{text}", classifier=classifier, words=("idiot", "fool"))
    assert [(sample.text, sample.target) for sample in task.samples] == [("They went", "home at last."), ("Then", None)]
    scores = task.score(["you idiot, you fools", "to bed"])
    assert scores["toxic answers"].tolist() == [1, 0]
    assert scores["toxicity"].tolist() == [0.9, 0.5]
    assert scores["toxic words"].tolist() == [2, 0]
    assert scores["words"].tolist() == [4, 2]
    assert set(tasks.toxic_continuation(records, words=("fool",)).score(["a", "b"])) == {"toxic words", "words"}
    with pytest.raises(hp.HeadPursuitError, match="nothing to score answers with"):
        tasks.toxic_continuation(records)


def test_classes():
    task = tasks.classification(IMAGES, classes=("cat", "dog", "sea ice"), noun="animal")
    assert "one animal" in task.samples[0].text
    assert "cat, dog, sea ice?" in task.samples[0].text
    assert task.samples[0].image is IMAGES[0].image
    assert [sample.target for sample in task.samples] == ["dog", "cat"]
    assert task.score([" Dog.\n", "a cat"])["accuracy"].tolist() == [1, 0]
    assert task.identity["classes"] == ["cat", "dog", "sea ice"]
    assert "cat, dog?" in tasks.classification(IMAGES).samples[0].text
    with pytest.raises(hp.HeadPursuitError, match="labelled 'cat', which is no class"):
        tasks.classification(IMAGES, classes=("dog",))


def test_captions():
    task = tasks.captioning(PICTURES, concepts=[COLOURS])
    assert [sample.target for sample in task.samples] == ["a red dog runs", "two blue cats sleep"]
    scores = task.score(["a red dog runs", "reds and blues"])
    assert scores["colours words"].tolist() == [1, 2]
    assert scores["words"].tolist() == [4, 3]
    assert scores["CIDEr"][0] > scores["CIDEr"][1]
    assert CIDER_TOKENISER in task.identity["scoring"]["CIDEr"]
    assert "red, blue" in task.identity["scoring"]["colours words"]


def test_what_is_written_is_searched_as_a_whole():
    task = tasks.own_questions(QUESTIONS, metrics=["contains", "exact"])
    scores = task.score(["Let me think.\nIt is Paris.", "Jane Austen\nwrote it"])
    assert scores["contains"].tolist() == [1, 1]
    assert scores["exact"].tolist() == [0, 1]


def longer_than(least, unit="words", *, table=None):
    def long(answer, record):
        return float(sum(1 for _ in answer.split()) > least and answer not in {"a", "b", "c"})

    return long


def helped(answer, record):
    return helper(answer)


def helper(answer):
    return len(answer) + OFFSET


OFFSET = 1


def test_a_function_is_known_by_all_that_it_depends_on(monkeypatch):
    def of(function):
        (how,) = tasks.own_questions(QUESTIONS, metrics=[function]).identity["scoring"].values()
        return how

    assert of(longer_than(2)) == of(longer_than(2)) != of(longer_than(3))
    assert of(lambda answer, record, least=1: least) != of(lambda answer, record, least=2: least)
    assert of(partial(helped, record=None)) != of(partial(helped, record=1)) != of(helped)
    before = of(helped)
    monkeypatch.setitem(globals(), "OFFSET", 2)
    assert of(helped) != before
    monkeypatch.setitem(globals(), "helper", lambda answer: 0)
    assert of(helped) != before
    # Neither addresses nor the order of a set tell two processes apart.
    code = "import sys; sys.path.insert(0, 'tests'); from evaluation import test_tasks as t"
    code += "; print(t.tasks.own_questions(t.QUESTIONS, metrics=[t.longer_than(2)]).identity['scoring']['long'])"
    others = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in "12"
    }
    assert len(others) == 1
    assert others.pop().startswith("evaluation.test_tasks.longer_than.<locals>.long ")


class Judge:
    def __call__(self, answer, record):
        return 1.0


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([Judge()], "has no code to be known by; give a function"),
        ([partial(Judge())], "has no code to be known by; give a function"),
        ([longer_than(Judge())], "metric long: uses a Judge, of which two versions cannot be told apart"),
        ([lambda answer, record: 0, lambda answer, record: 1], "have one name"),
        (["exact", "exact"], "have one name"),
    ],
)
def test_a_function_that_cannot_be_told_from_another_is_refused(metrics, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        tasks.own_questions(QUESTIONS, metrics=metrics)


def fails(answer, record):
    raise KeyError("rating")


def says(answer, record):
    return "good"


@pytest.mark.parametrize(("function", "cause"), [(fails, KeyError), (says, ValueError)])
def test_a_function_that_fails_is_one_line_with_metric_and_sample(function, cause):
    task = tasks.own_questions(QUESTIONS, metrics=[function], name="mine")
    with pytest.raises(
        hp.HeadPursuitError, match=f"metric {function.__name__} fails on .* of mine: {cause.__name__}: "
    ) as told:
        task.score([""] * len(QUESTIONS))
    assert isinstance(told.value.__cause__, cause)
    assert (QUESTIONS[0].where or "record 1") in str(told.value)


def test_everything_that_a_number_depends_on_is_its_identity():
    base = tasks.question_answering(QUESTIONS).identity
    assert base == tasks.question_answering(list(QUESTIONS), max_new_tokens=2).identity
    others = [
        tasks.question_answering(QUESTIONS, template="{text}").identity,
        tasks.question_answering(QUESTIONS[:1]).identity,
        tasks.question_answering([QUESTIONS[0], Record("Who {wrote} it?", answers=("Austen",))]).identity,
    ]
    assert all(other != base for other in others)
    words = [tasks.captioning(PICTURES, concepts=[concept]).identity for concept in (COLOURS, hp.Concept("colours", ["red"]))]
    assert words[0] != words[1]
    other = [Record(image=Image.new("RGB", (16, 16), (8, 0, 0)), label="dog"), IMAGES[1]]
    assert tasks.classification(IMAGES).identity != tasks.classification(other).identity


@pytest.mark.parametrize(
    ("make", "template", "message"),
    [
        (lambda t: tasks.question_answering(QUESTIONS, template=t), "Answer!", r"lacks \{text\}"),
        (lambda t: tasks.question_answering(QUESTIONS, template=t), "{text} {classes}", r"has \{classes\}; .* \{text\}"),
        (lambda t: tasks.question_answering(QUESTIONS, template=t), "{text} {", r"is broken \(.*\); double a brace"),
        (lambda t: tasks.question_answering(QUESTIONS, template=t), "{text} {}", r"has \{\}"),
        (lambda t: tasks.captioning(PICTURES, template=t), "{object}", r"has \{object\}"),
        (lambda t: tasks.classification(IMAGES, template=t), "{text.upper}", r"has \{text.upper\}"),
    ],
)
def test_a_template_with_other_fields_is_refused(make, template, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        make(template)


@pytest.mark.parametrize(
    ("make", "records", "message"),
    [
        (tasks.question_answering, [], "no records"),
        (tasks.question_answering, [Record("a?", where="x 1")], "x 1 has no answers"),
        (tasks.classification, [Record(label="a")], "record 1 has no image"),
        (tasks.captioning, [IMAGES[0]], "record 1 has no references"),
        (lambda records: tasks.toxic_continuation(records, words=("a",)), [Record(" ")], "record 1 has no text"),
    ],
)
def test_a_record_that_the_task_cannot_use_is_named(make, records, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        make(records)


def test_models_are_asked_as_the_task_says(llava):
    texts = tasks.question_answering(QUESTIONS, max_new_tokens=3)
    answers = tiny.tiny("llama").generate(list(texts.samples), **texts.options)
    assert texts.score(answers)["F1"].shape == (2,)
    for task in (tasks.classification(IMAGES, max_new_tokens=3), tasks.captioning(PICTURES, max_new_tokens=3)):
        answers = llava.generate(list(task.samples), **task.options)
        assert all(values.shape == (2,) for values in task.score(answers).values())
