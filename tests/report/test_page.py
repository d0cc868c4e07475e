"""The page must hold its numbers, stay in one piece, and let nothing in or out."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.report import ConceptSection, DescribedHead, Example, RunReport, Verdict, render_report
from report import made_up_runs as made_up

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'x' </style></svg> {{ 7 * 7 }} \x00\x1b[31m \ud800"


def page(run: RunReport, tmp_path) -> str:
    return render_report(run, tmp_path / "report.html").read_text(encoding="utf-8")


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def visible(text: str) -> str:
    body = parsed(text).find("body")
    assert body is not None
    return " ".join("".join(body.itertext()).split())


@pytest.mark.parametrize("name", made_up.RUNS)
def test_pages_are_well_formed_and_small(tmp_path, name):
    path = render_report(made_up.RUNS[name](), tmp_path / "new" / "report.html")
    assert path == tmp_path / "new" / "report.html"
    assert path.stat().st_size < 2_000_000
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    root = parsed(text)
    idents = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(idents) == len(set(idents))
    targets = {element.get("href", "")[1:] for element in root.iter("a")}
    assert targets <= set(idents)


@pytest.mark.parametrize("name", made_up.RUNS)
def test_nothing_is_fetched_from_elsewhere(tmp_path, name):
    text = page(made_up.RUNS[name](), tmp_path)
    assert not re.findall(r"https?://|@import|url\(", text)
    root = parsed(text)
    assert not list(root.iter("script")) + list(root.iter("link")) + list(root.iter("iframe"))
    for element in root.iter():
        assert not [key for key in element.attrib if key.startswith("on")]
        assert element.get("src", "data:image/").startswith("data:image/")


def test_a_page_is_the_same_every_time(tmp_path):
    assert page(made_up.demo_like(), tmp_path) == page(made_up.demo_like(), tmp_path)


def test_the_summary_says_what_was_reached_and_missed(tmp_path):
    text = visible(page(made_up.demo_like(), tmp_path))
    assert "5 of 6 targets reached; missed: sentiments." in text
    assert "The best reached was 0.41 at 3 heads" in text
    for number in ("0.04", "0.52", "[0.97–1.04]", "1.62", "2.44", "α = −1", "n = 256"):
        assert number in text
    assert "median and quartiles of 10 draws" in text


def test_every_row_is_in_the_page_with_its_n_and_seed(tmp_path):
    run = made_up.demo_like()
    root = parsed(page(run, tmp_path))
    (table,) = (element for element in root.iter("table") if element.get("class") == "numbers")
    lines = [["".join(cell.itertext()) for cell in line] for body in table.iter("tbody") for line in body]
    rows = [row for section in run.concepts for row in section.rows]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line[0] == row["concept"]
        assert line[7] == f"{row['normalized']:.2f}"
        assert line[9:] == [str(row["n"]), str(row["seed"])]


def test_maps_name_every_head_and_outline_the_edited_ones(tmp_path):
    run = made_up.demo_like()
    root = parsed(page(run, tmp_path))
    maps = [element for element in root.iter("svg") if "map" in element.get("class", "")]
    assert len(maps) == 2 * len(run.concepts)
    first, section = maps[0], run.concepts[0]
    titles = [title.text for cell in first.iter("rect") for title in cell.iter("title")]
    assert len(titles) == section.scores.size
    assert f"L3.H1 {section.scores[3, 1]:.3f}" in titles
    assert len([cell for cell in first.iter("rect") if cell.get("class") == "edited"]) == len(section.heads)
    assert first.get("role") == "img"
    assert first.get("aria-labelledby")


def test_missing_scores_are_shown_as_missing(tmp_path):
    text = page(made_up.bare(), tmp_path)
    assert "L0.H0 not measured" in text
    values = np.full((2, 2), np.nan)
    assert parsed(page(RunReport("x", "", "m", "a", [ConceptSection("c", [], "somp", "mean", values)]), tmp_path))
    flat = ConceptSection("c", [], "somp", "mean", np.zeros((2, 2)), logit_lens_scores=np.zeros((2, 2)))
    assert parsed(page(RunReport("x", "", "m", "a", [flat]), tmp_path))


def test_words_of_the_concept_are_highlighted(tmp_path):
    root = parsed(page(made_up.demo_like(), tmp_path))
    marked = {mark.text for mark in root.iter("mark")}
    assert {"red", "green", "happy", "France", "stupid", "idiot", "7"} <= marked
    assert "circles" not in marked


def test_hostile_text_is_only_text(tmp_path):
    head = DescribedHead("L0.H0", [HOSTILE, "\n", ""], 0.5, 0.5)
    row = made_up.row(HOSTILE, HOSTILE, "somp", 1, -1.0, HOSTILE, 0.5)
    section = ConceptSection(
        HOSTILE,
        ["script", HOSTILE],
        HOSTILE,
        HOSTILE,
        np.ones((1, 1)),
        heads=[head],
        rows=[row, row | {"selection": HOSTILE}],
        logit_lens_scores=np.ones((1, 1)),
        examples=[Example(HOSTILE, HOSTILE, HOSTILE, made_up.scene(0), HOSTILE, HOSTILE)],
        verdict=Verdict(HOSTILE, False, HOSTILE),
        description=HOSTILE,
    )
    run = RunReport(
        HOSTILE, HOSTILE, HOSTILE, HOSTILE, [section], [head], {HOSTILE: HOSTILE}, HOSTILE, [HOSTILE], 10, HOSTILE
    )
    text = page(run, tmp_path)
    assert "<script" not in text
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "{{ 7 * 7 }}" in text
    assert not list(parsed(text).iter("script"))


def test_rows_without_controls_or_baselines_are_enough(tmp_path):
    full = made_up.demo_like().concepts[0]
    somp = [row for row in full.rows if row["selection"] == "somp"]
    bare = [{**row, "normalized": None, "q25": None, "q75": float("nan"), "n": None} for row in somp]
    section = replace(full, rows=bare, logit_lens_scores=None, examples=(), verdict=None, heads=())
    assert "colours per caption" in visible(page(replace(made_up.demo_like(), concepts=[section]), tmp_path))


def test_a_concept_that_is_only_enhanced(tmp_path):
    section = made_up.captioning("colours", made_up.COLOURS, 1, suppressed=None)
    assert "Enhance, α = 5" in visible(page(replace(made_up.demo_like(), concepts=[section]), tmp_path))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
@pytest.mark.parametrize("side", [8, 900])
def test_images_of_every_kind_are_embedded(tmp_path, mode, side):
    image = made_up.scene(0).resize((side, side)).convert(mode)
    section = replace(made_up.bare().concepts[0], examples=[Example("", "before", "after", image)])
    text = page(replace(made_up.bare(), concepts=[section]), tmp_path)
    assert len(text) < 200_000
    assert image.size == (side, side)
    assert ("pixels" in text.split("</style>")[1]) == (side == 8)


def test_big_models_have_their_heads_abreast_and_no_endless_list(tmp_path):
    run = made_up.large()
    described = [DescribedHead(f"L{i // 32}.H{i % 32}", [" red"], i / 2000) for i in range(1024)]
    content = page(replace(run, described=described), tmp_path)
    assert '>L31.H31</th><td><code>red</code> </td><td class="num">51.1 %' in content.replace("\n", "")
    text = visible(content)
    assert "the 64 of 1024 heads that are explained best" in text


def test_mistakes_in_the_content_are_named():
    with pytest.raises(HeadPursuitError, match=r"shape \(layers, heads\)"):
        ConceptSection("c", [], "somp", "mean", np.zeros(3))
    with pytest.raises(HeadPursuitError, match="logit_lens_scores"):
        ConceptSection("c", [], "somp", "mean", np.zeros((2, 2)), logit_lens_scores=np.zeros((2, 3)))
    with pytest.raises(HeadPursuitError, match=r"L2\.H0 lies outside its 2 × 2"):
        ConceptSection("c", [], "somp", "mean", np.zeros((2, 2)), heads=[DescribedHead("L2.H0")])
    with pytest.raises(HeadPursuitError, match="not the name of a head"):
        ConceptSection("c", [], "somp", "mean", np.zeros((2, 2)), heads=[DescribedHead("second")])


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadPursuitError, match="cannot write the report"):
        render_report(made_up.empty(), tmp_path / "file" / "report.html")


def test_missing_jinja_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"headpursuit\[report\]"):
        render_report(made_up.empty(), tmp_path / "report.html")


def test_importing_the_report_loads_no_torch_and_no_drawing_library():
    heavy = "{'torch', 'matplotlib', 'jinja2'}"
    code = f"import headpursuit.report, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_are_not_upscaled_or_changed():
    image = Image.new("RGB", (900, 300))
    from headpursuit.report.html import data_uri

    assert data_uri(image).startswith("data:image/jpeg;base64,")
    assert image.size == (900, 300)
