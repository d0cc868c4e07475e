"""A session as HTML: nothing that a model or a visitor wrote becomes markup, and what is shown is what was found."""

from __future__ import annotations

import re
from dataclasses import replace

import headpursuit as hp
from headpursuit.app.playground import find, open_head
from headpursuit.app.session import Session
from headpursuit.app.view import columns_of, edit_of, head_of, map_of, style, title_of
from headpursuit.app.writing import Column

EVIL = "<script>alert(1)</script>"


def test_what_was_written_is_no_markup(playground):
    found = find(playground, f"red, green, {EVIL}")
    columns = [Column("unedited", text=f"{EVIL} red"), Column("edited", remark=EVIL)]
    driven = replace(playground, samples=tuple(replace(one, target=EVIL) for one in playground.samples))
    opened = open_head(playground, hp.Head(2, 14))
    remarked = replace(found, remark=EVIL)
    pages = [columns_of(columns, found), map_of(Session(found=remarked)), head_of(driven, Session(found=found), opened)]
    assert all("<script" not in page for page in pages)
    assert all("&lt;script&gt;" in page for page in pages)


def test_words_are_marked_and_those_that_the_edit_lost_struck(playground):
    found = find(playground, "red, blue")
    said = [Column("unedited", text="red blue", count=2, log_odds=(0.5,)), Column("edited", text="a blue", count=1)]
    page = columns_of(said, found)
    assert re.findall(r"<(mark|del)>(\w+)</", page)[:3] == [("del", "red"), ("mark", "blue"), ("mark", "blue")]
    assert re.findall(r"log-odds <b>([^<]*)", page) == ["0.50", "–"]
    writing = [said[0], Column("edited", text="a")]
    assert "<del>red" not in columns_of(writing, found), "nothing is gone while the edited text is being written"


def test_the_map_names_every_head_and_outlines_the_edit(playground):
    found = find(playground, "colours")
    page, edited = map_of(Session(found=found)), map_of(Session(found=found, edit=hp.HeadEdit(["L1.H4"], scale=2)))
    titles = re.findall(r"<title>(L\d+\.H\d+): ([−\d.]+)</title>", page)
    assert [name for name, _ in titles] == [head.name for head in playground.acts.heads()]
    assert page.count("<path") + 1 == edited.count("<path"), "the outline"
    assert map_of(Session()) == ""
    assert edit_of(Session(edit=hp.HeadEdit(["L1.H4"], scale=-2, where="image"))).count("L1.H4 × −2 on image tokens") == 1
    assert "120 attention heads in 6 layers" in title_of(playground)


def test_light_and_dark_have_the_same_colours():
    light, dark = (set(re.findall(r"(--[\w-]+): #", part)) for part in style().split(".dark", 1))
    assert light == dark & light
    assert "@media screen" not in style(), "gradio says when it is dark"
