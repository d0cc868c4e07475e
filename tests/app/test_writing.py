"""Texts side by side: each is the library's own, and the model is as it was after every one of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations.measures import concept_log_odds
from headpursuit.app.playground import find, open_playground
from headpursuit.app.writing import write
from headpursuit.concepts.counting import count_words
from headpursuit.demo import demo_samples
from headpursuit.ranking.controls import control_edits


@pytest.fixture(scope="module")
def sample():
    shapes = demo_samples("shapes", "test", limit=40)
    drawn = next(one for one in shapes if count_words(one.target, hp.concept("colours").words))
    return hp.Sample(text=drawn.text, image=drawn.image)


@pytest.fixture(scope="module")
def found(playground):
    return find(playground, "colours")


def test_the_three_texts_are_those_of_the_library(playground, found, sample):
    model, edit = playground.model, hp.HeadEdit(["L3.H11", "L5.H18", "L3.H2"], scale=-1)
    *_, (unedited, edited, control) = write(playground, sample, edit=edit, found=found, max_new_tokens=24, seed=3)
    controls = control_edits(edit, model, draws=10, seed=3)
    assert unedited.text == model.generate(sample, max_new_tokens=24)
    with edit.applied(model):
        assert edited.text == model.generate(sample, max_new_tokens=24)
    with controls[0].applied(model):
        assert control.text == model.generate(sample, max_new_tokens=24)
    assert control.edit == controls[0]
    assert len({unedited.text, edited.text}) == 2

    along = [replace(sample, target=unedited.text.strip())]
    values = []
    for one in (None, edit, *controls):
        with one.applied(model) if one else torch.no_grad():
            values.append(float(concept_log_odds(model, along, tokens=found.tokens)[0]))
    assert unedited.log_odds == (pytest.approx(values[0]),)
    assert edited.log_odds == (pytest.approx(values[1]),)
    assert control.log_odds == pytest.approx(tuple(np.quantile(values[2:], [0.5, 0.25, 0.75])))
    assert [one.count for one in (unedited, edited, control)] == [
        count_words(one.text, found.concept.words) for one in (unedited, edited, control)
    ]


def test_texts_grow_one_after_the_other(playground, found, sample):
    edit = hp.HeadEdit(found.ranking.top(1), scale=-1)
    steps = list(write(playground, sample, edit=edit, found=found, max_new_tokens=24))
    for column in range(3):
        texts = [one[column].text for one in steps]
        assert len(set(texts)) > 5
        assert all(later.startswith(text.rstrip()) for text, later in pairwise(texts))
    assert all(one[1].text == "" for one in steps if one[0].count is None)


def test_without_an_edit_or_a_concept_there_is_one_text(playground, sample):
    *_, columns = write(playground, sample, edit=None, found=None, max_new_tokens=4)
    assert [one.title for one in columns] == ["unedited"]
    assert columns[0].count is None


def test_leaving_in_the_middle_leaves_no_edit(playground, found, sample):
    model = playground.model
    before = model.generate(sample, max_new_tokens=24)
    writing = write(playground, sample, edit=hp.HeadEdit(found.ranking.top(3), scale=5), found=None, max_new_tokens=24)
    for columns in writing:
        if columns[1].text:
            break
    writing.close()
    assert playground.lock.acquire(blocking=False)
    playground.lock.release()
    assert model.generate(sample, max_new_tokens=24) == before
    assert not any(module._forward_pre_hooks for module in model.hf.modules())


def test_two_visitors_at_once_do_not_meet(playground, sample):
    """Each writes under an edit of their own, over and over, and reads what that edit alone writes."""
    model, texts, wanted = playground.model, {}, {}
    edits = {"one": hp.HeadEdit(["L1.H4", "L0.H7"], scale=-1), "other": hp.HeadEdit(["L2.H11"], scale=4)}
    for name, edit in edits.items():
        with edit.applied(model):
            wanted[name] = model.generate(sample, max_new_tokens=16)

    def visit(name):
        for _ in range(3):
            *_, columns = write(playground, sample, edit=edits[name], found=None, max_new_tokens=16)
            texts.setdefault(name, []).append((columns[0].text, columns[1].text))

    visitors = [threading.Thread(target=visit, args=[name]) for name in edits]
    for one in visitors:
        one.start()
    for one in visitors:
        one.join()
    unedited = model.generate(sample, max_new_tokens=16)
    assert texts == {name: [(unedited, wanted[name])] * 3 for name in edits}
    assert len({unedited, *wanted.values()}) > 1


def test_what_cannot_be_is_said(playground, found, sample, tmp_path):
    at_image = hp.HeadEdit(["L1.H4"], scale=-1, where="image")
    with pytest.raises(hp.HeadPursuitError, match="there is none: give an image"):
        next(write(playground, hp.Sample(text="a"), edit=at_image, found=found, max_new_tokens=4))
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(hp.HeadPursuitError, match=r"broken\.png"):
        list(write(playground, hp.Sample(text="a", image=tmp_path / "broken.png"), edit=None, found=None, max_new_tokens=4))
    whole = hp.HeadEdit([f"L0.H{head}" for head in range(17)], scale=0)
    *_, columns = write(playground, sample, edit=whole, found=found, max_new_tokens=4)
    assert "too few for a disjoint control" in columns[2].remark
    assert columns[1].text
    generated = hp.HeadEdit(["L1.H4"], scale=-1, where="generated")
    *_, columns = write(playground, sample, edit=generated, found=found, max_new_tokens=4)
    assert len(columns[0].log_odds) == 1
    assert columns[1].log_odds == (), "along a given text no token counts as generated"


@pytest.mark.parametrize("family", ["llama", "gpt2", "llava"])
def test_other_models_write_too(family):
    playground = open_playground(tiny.tiny(family), samples=tiny.TEXTS, progress=False)
    edit = hp.HeadEdit(["L0.H1"], scale=-1)
    *_, columns = write(
        playground, hp.Sample(text="two cats"), edit=edit, found=find(playground, "red, blue"), max_new_tokens=5
    )
    assert columns[0].text == playground.model.generate("two cats", max_new_tokens=5)
    assert len(columns[2].log_odds) == 3
