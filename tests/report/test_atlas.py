"""An atlas must be whole or not there, lead nowhere into the void, find its tokens, and take every text as a text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import headpursuit as hp
import tiny
from headpursuit.demo import demo_samples
from headpursuit.report.atlas_pages import Facts, write_pages

HOSTILE = "</script><script>alert(1)</script> & \"quoted\" 'x' {{ 7 * 7 }} \x00 \ud800"
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def samples():
    chosen = demo_samples("caption", "selection", limit=24)
    return [hp.Sample(text=one.text, image=one.image, target=one.target) for one in chosen]


@pytest.fixture(scope="module")
def acts(samples):
    return hp.capture("demo", samples, positions="last", progress=False)


@pytest.fixture(scope="module")
def demo(acts, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "atlas"
    return hp.atlas(acts, out=out, concept=["colours", "numbers"], significance=50, samples=samples, progress=False).parent


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """1024 heads, all built-in concepts that the vocabulary knows."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=32,
        num_attention_heads=32,
        head_dim=4,
        vocab_size=len(tiny.tokenizer()),
        initializer_range=0.3,
        pad_token_id=0,
    )
    model = hp.wrap(AutoModelForCausalLM.from_config(config).eval(), tiny.tokenizer())
    words = tiny.WORDS.split()
    acts = hp.capture(model, [f"{one} {other}" for one in words[:6] for other in words[6:12]], positions="last", progress=False)
    out = tmp_path_factory.mktemp("large") / "atlas"
    return hp.atlas(acts, out=out, significance=20, progress=False).parent


@pytest.fixture(params=["demo", "large"])
def site(request):
    return request.getfixturevalue(request.param)


def data(site):
    text = (site / "data.js").read_text("utf-8")
    return json.loads(text.removeprefix("const ATLAS = ").rstrip().removesuffix(";"))


def pages(site):
    return {path: ElementTree.fromstring(path.read_text("utf-8")) for path in site.rglob("*.html")}


def visible(root):
    return " ".join("".join(root.find("body").itertext()).split())


def test_every_link_resolves_and_nothing_is_fetched_from_elsewhere(site):
    views = {view["name"] for view in data(site)["views"]}
    files, reached = {str(path) for path in site.rglob("*")}, {str(site / "index.html")}
    for path, root in pages(site).items():
        for element in root.iter():
            assert not [key for key in element.attrib if key.startswith("on")]
            for key in ("href", "src", "action"):
                if key not in element.attrib:
                    continue
                link = urlsplit(element.get(key))
                if link.scheme:
                    assert (element.tag, link.scheme) == ("a", "https")
                    continue
                target = os.path.normpath(path.parent / unquote(link.path))
                assert target in files, f"{path.name} leads to {link.path}"
                assert set(parse_qs(link.query).get("view", [])) <= views
                reached.add(target)
    assert reached >= set(map(str, pages(site)))
    scripts = "".join((site / name).read_text() for name in ("style.css", "atlas.js"))
    assert not re.findall(r"@import|url\(|fetch\(|https?:", scripts)


def test_a_thousand_heads_are_small_enough_to_publish(large):
    files = [path for path in large.rglob("*") if path.is_file()]
    assert len(list((large / "heads").iterdir())) == 1024
    assert sum(path.stat().st_size for path in files) <= 30_000_000
    assert max(path.stat().st_size for path in files) < 1_000_000


def test_the_search_finds_the_heads_of_a_token(site):
    known = data(site)
    word, heads = next((text, of) for text, of in known["tokens"] if len(of) > 1 and text.isalpha())
    for number, (name, _) in enumerate(known["heads"]):
        table = next((one for one in pages_of(site, name).iter("table") if one.get("class") == "tokens"), None)
        shown = [] if table is None else ["".join(one.itertext()) for one in table.iter("a")]
        assert (word in shown) == (number in heads), name


def pages_of(site, name):
    return ElementTree.fromstring((site / "heads" / f"{name}.html").read_text("utf-8"))


def test_a_page_tells_what_describe_and_rank_tell(demo, acts, samples):
    one = hp.describe(acts, heads="L3.H11", n_atoms=10, examples=5, samples=samples, progress=False)[0]
    every = hp.describe(acts, n_atoms=10, significance=50, progress=False)
    tested = next(other for other in every if other.head == one.head)
    root = pages_of(demo, "L3.H11")
    text = visible(root)
    table = next(table for table in root.iter("table") if table.get("class") == "tokens")
    rows = [["".join(cell.itertext()) for cell in line] for line in table.find("tbody")]
    assert [row[0] for row in rows] == [token.strip() for token in one.tokens]
    assert [row[1] for row in rows] == [f"{100 * share:.0f} %" for share in one.explained_variance]
    assert f"fits {tested.evidence.fit:.3g} times better" in text
    assert f"chance gives {tested.evidence.by_chance:.3g}" in text
    for example in one.examples:
        assert f"{example.score:+.3g}".replace("-", "−") in text
    assert len(list(root.iter("img"))) == 5
    ranking = hp.rank(acts, "colours", progress=False)
    place = [head.name for head in ranking.order()].index("L3.H11") + 1
    assert f"colours{place} of 120" in "".join(text.split()).replace("of120", " of 120")
    colours = next(view for view in data(demo)["views"] if view["name"] == "colours")
    best = max(range(len(acts.heads())), key=lambda number: colours["values"][number])
    assert data(demo)["heads"][best][0] == ranking.order()[0].name


def test_neighbours_share_tokens(demo):
    known = data(demo)
    for name, _ in known["heads"][:10]:
        own = next(number for number, (other, _) in enumerate(known["heads"]) if other == name)
        tokens = {text for text, heads in known["tokens"] if own in heads}
        (listed,) = [one for one in pages_of(demo, name).iter("ul") if one.get("class") == "heads-list"]
        for item in listed:
            shared = item.find("a/span").text.removesuffix(", …").split(", ")
            assert set(shared) <= tokens


def test_a_capture_alone_is_enough(acts, tmp_path):
    text = visible(pages_of(hp.atlas(acts, out=tmp_path / "a", concept=[], significance=0, progress=False).parent, "L0.H0"))
    assert "make the atlas with --samples FILE" in text
    assert re.search(r"sample \d+", text)
    assert "Whether chance does as well was not tested." in text


def test_moments_have_no_samples_to_show(samples, tmp_path):
    moments = hp.capture("demo", samples, positions="all", progress=False)
    entrance = hp.atlas(moments, out=tmp_path / "a", concept=["colours"], significance=10, progress=False)
    assert "Samples that drive it" not in visible(pages_of(entrance.parent, "L3.H11"))


def test_what_fails_leaves_nothing_and_goes_on_where_it_stopped(acts, tmp_path, monkeypatch):
    module = sys.modules["headpursuit.report.atlas"]
    options = {"out": tmp_path / "atlas", "concept": ["colours"], "significance": 0, "progress": False}

    def full(folder: Path, facts: Facts, *, progress: bool) -> None:
        write_pages(folder, facts, progress=progress)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_pages", full)
    with pytest.raises(hp.HeadPursuitError, match="No space left"):
        hp.atlas(acts, **options)
    monkeypatch.undo()
    (parts,) = tmp_path.iterdir()
    assert parts.name == ".atlas.parts"
    made = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert len(made) == 7  # six layers and a concept

    def look(folder: Path, facts: Facts, *, progress: bool) -> None:
        assert {path.name: path.stat().st_mtime_ns for path in parts.iterdir()} == made
        write_pages(folder, facts, progress=progress)

    monkeypatch.setattr(module, "write_pages", look)
    assert hp.atlas(acts, **options).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["atlas"]


def test_a_finished_atlas_stays_and_another_takes_its_place(acts, tmp_path):
    options = {"out": tmp_path / "atlas", "significance": 0, "progress": False}
    entrance = hp.atlas(acts, concept=["colours"], **options)
    before = entrance.stat().st_mtime_ns
    assert hp.atlas(acts, concept=["colours"], **options).stat().st_mtime_ns == before
    hp.atlas(acts, concept=["numbers"], **options)
    assert [view["name"] for view in data(entrance.parent)["views"]] == ["explained variance", "numbers"]
    assert [path.name for path in tmp_path.iterdir()] == ["atlas"]


@pytest.mark.parametrize("wrong", ["file", "folder"])
def test_what_is_not_an_atlas_is_left_alone(acts, tmp_path, wrong):
    mine = tmp_path / "mine" if wrong == "file" else tmp_path / "mine" / "index.html"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(hp.HeadPursuitError, match="holds no atlas"):
        hp.atlas(acts, out=tmp_path / "mine", progress=False)
    assert mine.read_text() == "mine"


def test_mistakes_are_told_before_any_work(acts, samples, tmp_path):
    for options, message in (
        ({"samples": samples[:3]}, "are not those of the capture"),
        ({"concept": ["red,blue", "red,blue"]}, "a name of its own"),
        ({"n_atoms": 0}, "n_atoms=0"),
    ):
        with pytest.raises(hp.HeadPursuitError, match=message):
            hp.atlas(acts, out=tmp_path / "a", progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_hostile_text_is_only_text(acts, tmp_path):
    every = hp.describe(acts, n_atoms=3, significance=10, progress=False)
    odd = [replace(one, tokens=(HOSTILE, "\n", ""), evidence=replace(one.evidence, tokens=(HOSTILE,), q=0.0)) for one in every]
    described = replace(every, each=tuple(odd))
    ranking = hp.rank(acts, hp.Concept("colours", ["red"]), progress=False)
    ranking = replace(ranking, concept=HOSTILE)
    facts = Facts(described, (ranking,), {"id": HOSTILE, "fingerprint": HOSTILE}, acts.n, acts.positions, acts.about, 0, ())
    write_pages(tmp_path, facts, progress=False)
    for path, root in pages(tmp_path).items():
        assert len(list(root.iter("script"))) == (2 if path.name == "index.html" else 0)
        assert "alert(1)" in visible(root)
        assert "{{ 7 * 7 }}" in path.read_text("utf-8")
        assert "\x00" not in path.read_text("utf-8")
    assert data(tmp_path)["views"][2]["name"].startswith("</script>")
    assert not re.search("[^\x00-\x7f]", (tmp_path / "data.js").read_text())


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_recolours_the_map_and_searches(demo, tmp_path):
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    address = f"{(demo / 'index.html').as_uri()}?view=colours&q=red"
    dom = subprocess.run([*words, address], capture_output=True, text=True, check=True, timeout=120).stdout
    heads = dict(data(demo)["tokens"])["red"]
    assert "for “red”" in dom
    assert 'data-view="2" aria-pressed="true"' in dom
    matched = re.findall(r'data-head="(\d+)" class="(?:outlined )?match"', dom)
    assert set(map(str, heads)) <= set(matched)
