"""The page must hold its numbers, stay in one piece, and let nothing in or out."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pandas as pd
import pytest

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.evaluation.results import Example
from headpursuit.report import page
from report import made_up

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'x' </style></svg> {{ 7 * 7 }} \x00\x1b[31m"
GENERATED = f"{HOSTILE} \ud800"  # half a surrogate pair


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: page(make(), folder / "new" / f"{name}.html").read_text("utf-8") for name, make in made_up.SHAPES.items()}


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def visible(text: str) -> str:
    body = parsed(text).find("body")
    assert body is not None
    return " ".join("".join(body.itertext()).split())


def texts(root: ElementTree.Element, tag: str) -> list[str]:
    return ["".join(one.itertext()) for one in root.iter(tag)]


@pytest.mark.parametrize("name", made_up.SHAPES)
def test_pages_are_well_formed_and_small(pages, name):
    text = pages[name]
    assert len(text.encode()) < 2_000_000
    assert text.startswith("<!DOCTYPE html>")
    root = parsed(text)
    idents = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(idents) == len(set(idents))
    links = {element.get("href", "") for element in root.iter("a")}
    assert {link[1:] for link in links if link.startswith("#")} <= set(idents)
    assert "https://arxiv.org/abs/2510.21518" in links


@pytest.mark.parametrize("name", made_up.SHAPES)
def test_nothing_is_fetched_from_elsewhere(pages, name):
    text = pages[name]
    assert not re.findall(r"@import|url\((?!#)", text)
    root = parsed(text)
    assert not list(root.iter("script")) + list(root.iter("link")) + list(root.iter("iframe"))
    for element in root.iter():
        assert not [key for key in element.attrib if key.startswith("on")]
        assert element.get("src", "data:image/").startswith("data:image/")
        assert element.get("href", "#").startswith(("#", "data:text/csv;", "https://"))


def test_a_page_is_the_same_every_time(tmp_path):
    first, second = (page(made_up.several(), tmp_path / name).read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("name", made_up.SHAPES)
def test_words_are_explained_and_every_part_is_in_the_index(pages, name):
    root = parsed(pages[name])
    assert {"Head", "α", "SOMP", "Logit lens", "Random heads"} <= set(texts(root, "dt"))
    parts = [one for one in root.iter("details") if one.get("class") == "part"]
    (nav,) = root.iter("nav")
    listed = {one.get("href") for one in nav.iter("a")}
    named = {f"#{div.get('id')}" for part in parts for div in part.iter("div") if div.get("id")}
    assert listed - {"#words"} <= named
    assert len(listed) >= min(len(parts), 2)


def test_it_leads_with_what_happened(pages):
    lead = visible(pages["one"]).split("How to read it")[0]
    assert "Colours words fall to 4 % of the unedited model's with 2 of 48 heads scaled by −1" in lead
    assert "all else stays at 95 % or above (least: accuracy of digits)" in lead
    assert "As many random heads bring it to 100 %." in lead
    assert "reached" in lead
    both = visible(pages["several"]).split("How to read it")[0]
    assert "missed" in both
    assert "fall to 41 %" in both


def test_every_claim_has_its_thumbnail_and_leads_to_its_part(pages):
    root = parsed(pages["one"])
    (claim,) = [one for one in root.iter("div") if one.get("class", "").startswith("claim ")]
    assert texts(claim, "b")[0] == "4 %"
    (meter,) = [one for one in claim.iter("div") if one.get("class") == "meter"]
    at = {one.get("class"): float(one.get("style").split("left:")[1].split("%")[0]) for one in meter}
    edit, random = (
        next(float(b.get("style")[5:-1]) for b in meter.iter("b") if b.get("class") == kind) for kind in ("edit", "random")
    )
    assert 0 <= edit < random <= 100
    assert random == pytest.approx(at["unedited"], abs=0.1)  # the control stays where the unedited model is
    assert "95 % interval" in "".join(claim.itertext())
    (link,) = claim.iter("a")
    assert link.get("href")[1:] in {one.get("id") for one in root.iter()}


def test_heads_of_one_model_are_not_named_by_anothers_tokens(tmp_path):
    plain = made_up.results()
    other = {"id": "other", "architecture": "LlamaForCausalLM", "fingerprint": "def"}
    named = replace(plain, recipe="b", model=other, descriptions=(replace(plain.descriptions[0], tokens=(" zebra",)),))
    bare = replace(plain, recipe="a", descriptions=(), concepts=(replace(plain.concepts[0], name="shades"),))
    bare = replace(bare, rows=tuple(replace(row, concept="shades") for row in plain.rows))
    text = page([bare, replace(named, concepts=(), rows=())], tmp_path / "page.html").read_text("utf-8")
    assert text.count("<td>zebra</td>") == 1  # in the table of its own model's named heads
    shown = visible(text)
    assert "What the heads of demo, other do" in shown
    assert "abc, def" in shown


def test_verdicts_say_what_was_missed_and_that_a_control_moved(pages, tmp_path):
    assert "colours words came to 0.41, at most 0.3 was wanted" in visible(pages["several"])
    moved = visible(page(made_up.results(control=0.6, control_held=False), tmp_path / "page.html").read_text())
    assert "reached, control moved too" in moved
    assert "The control moved: as many random heads bring it to 60 %." in moved


def test_no_page_has_columns_of_dashes(pages):
    for text in pages.values():
        for table in parsed(text).iter("table"):
            lines = [["".join(cell.itertext()) for cell in line] for body in table.iter("tbody") for line in body]
            for column in zip(*lines, strict=True):
                assert set(column) - {"", "–", "-"}


def test_every_row_can_be_had_as_csv(pages):
    tables = []
    for link in parsed(pages["one"]).iter("a"):
        if link.get("href", "").startswith("data:text/csv"):
            text = base64.b64decode(link.get("href", "").partition(",")[2]).decode()
            tables.append(pd.read_csv(io.StringIO(text)))
    rows = made_up.results().to_frame()
    (whole,) = (table for table in tables if list(table) == list(rows))
    assert whole["value"].tolist() == rows["value"].tolist()
    assert len(tables) >= 5


def test_maps_name_every_head(pages):
    root = parsed(pages["one"])
    titles = {one.text for one in root.iter("{http://www.w3.org/2000/svg}title")}
    scores = made_up.ranking().scores
    assert {f"L{layer}.H{head} {scores[layer, head]:.3f}" for layer in range(6) for head in range(8)} <= titles
    for svg in root.iter("{http://www.w3.org/2000/svg}svg"):
        assert svg.get("role") == "img"
        assert svg.get("aria-label")


def test_words_of_the_concept_are_marked_and_lost_ones_struck(pages):
    root = parsed(pages["one"])
    (first, *_, question) = root.iter("article")
    assert texts(first, "del") == ["red"]
    assert texts(first, "mark") == ["green", "green", "red", "green", "blue"]
    assert "✓" not in "".join(first.itertext())  # a caption is one of many right ones
    assert ["✓" in one or "✗" in one for one in texts(question, "dd")] == [True, True, False]
    assert [one[-1] for one in texts(question, "dd")] == ["✓", "✗", "a"]


def test_hostile_text_is_only_text(tmp_path):
    plain = made_up.results()
    rows = tuple(replace(one, concept=HOSTILE, task=HOSTILE, metric=HOSTILE) for one in plain.rows[:4])
    concept = replace(
        plain.concepts[0],
        name=HOSTILE,
        task=HOSTILE,
        target=HOSTILE,
        words=("script", HOSTILE),
        counted=("script", HOSTILE),
        verdicts=(made_up.verdict(task=HOSTILE, metric=HOSTILE, effect=0.9, k=1),),
        examples=(Example(HOSTILE, GENERATED, GENERATED, made_up.scene(0), GENERATED, HOSTILE),),
    )
    hostile = replace(
        plain,
        title=HOSTILE,
        recipe=HOSTILE,
        model={"id": HOSTILE, "architecture": HOSTILE},
        rows=rows,
        comparisons=(),
        concepts=(concept,),
        descriptions=(replace(plain.descriptions[0], tokens=(GENERATED, "\n", "")),),
        settings={"paper": HOSTILE},
    )
    text = page(hostile, tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in text
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "{{ 7 * 7 }}" in text
    assert not list(parsed(text).iter("script"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
@pytest.mark.parametrize("side", [8, 900])
def test_images_of_every_kind_are_embedded(tmp_path, mode, side):
    image = made_up.scene(0).resize((side, side)).convert(mode)
    concept = replace(made_up.results().concepts[0], rankings={}, verdicts=(), examples=(Example("", "a", "b", image),))
    bare = replace(made_up.SHAPES["empty"](), concepts=(concept,))
    text = page(bare, tmp_path / "page.html").read_text("utf-8")
    assert len(text) < 200_000
    assert image.size == (side, side)
    assert ('class="pixels"' in text) == (side == 8)


def test_a_tuned_edit_leads_with_its_trade_off(pages):
    text = visible(pages["tuned"])
    assert "fall to 10 % of the unedited model's" in text
    assert "missed: CIDEr lost 0.100" in text
    assert "every edit that was tried" in text


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadPursuitError, match=r"report\.html could not be written"):
        page(made_up.SHAPES["empty"](), tmp_path / "file" / "report.html")


def test_missing_jinja_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"headpursuit\[report\]"):
        page(made_up.SHAPES["empty"](), tmp_path / "report.html")


def test_importing_the_report_loads_no_drawing_library():
    code = "import headpursuit.report, sys; print(sorted({'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
