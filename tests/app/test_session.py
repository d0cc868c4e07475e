"""A visitor's steps: each gives a new session, and what was before can be had back."""

from __future__ import annotations

from dataclasses import replace

import pytest

import headpursuit as hp
from headpursuit.app.playground import find
from headpursuit.app.session import Session, best, edited, flipped, scaled, undone


def opened(name, **values):
    return replace(Session(**values), opened=hp.Head.parse(name))


def test_a_head_is_taken_in_and_out():
    one = flipped(opened("L1.H2", scale=-2.0, where="prompt"))
    assert one.edit == hp.HeadEdit(["L1.H2"], scale=-2, where="prompt")
    two = flipped(replace(one, opened=hp.Head(0, 1)))
    assert two.edit.heads == (hp.Head(0, 1), hp.Head(1, 2))
    assert flipped(replace(two, opened=hp.Head(1, 2))).edit == hp.HeadEdit(["L0.H1"], scale=-2, where="prompt")
    assert flipped(one).edit is None
    with pytest.raises(hp.HeadPursuitError, match="no head is open"):
        flipped(Session())


def test_a_loaded_edit_keeps_its_scales_until_another_is_chosen():
    loaded = edited(Session(), hp.HeadEdit(["L0.H1", "L1.H2"], scale=[0.5, 3]))
    more = flipped(replace(loaded, opened=hp.Head(2, 0)))
    assert [one.scale for one in more.edit.factors] == [0.5, 3, -1]
    assert [one.scale for one in scaled(more, 2, "text").edit.factors] == [2, 2, 2]
    assert scaled(more, 2, "text").edit.token_groups == ("text",)


def test_steps_are_undone_in_their_order():
    first = flipped(opened("L1.H2"))
    second = scaled(first, 4, "all")
    third = flipped(second)
    assert third.edit is None
    assert undone(third).edit == second.edit
    assert undone(undone(third)).edit == first.edit
    nothing = undone(undone(undone(third)))
    assert nothing.edit is None
    assert nothing.before == ()
    assert undone(nothing) is nothing
    assert scaled(first, -1, "all").before == first.before, "what changes nothing is no step"


def test_the_best_are_those_of_the_ranking(playground):
    found = find(playground, "colours")
    session = best(Session(found=found, scale=5.0, where="image"), 3)
    assert session.edit == hp.HeadEdit(found.ranking.top(3), scale=5, where="image")
    for wrong in (0, 121, None):
        with pytest.raises(hp.HeadPursuitError, match="choose between 1 and the model's 120 heads"):
            best(session, wrong)
    with pytest.raises(hp.HeadPursuitError, match="type a concept first"):
        best(Session(), 3)


def test_a_session_is_never_changed():
    before = opened("L1.H2")
    flipped(before)
    scaled(before, 3, "all")
    assert before.edit is None
    assert before.scale == -1
    assert before.before == ()
