"""``headpursuit tune`` and ``attribute``: what they print and write, a second run runs nothing, mistakes cost one line."""

from __future__ import annotations

import json

import pytest

import headpursuit as hp
from command import call
from headpursuit.demo import demo_samples

QUICK = ("--limit", 8, "--trials", 4, "--k", 3)


def test_a_search_that_is_run_again_finds_its_cells_and_its_edit_can_be_used(tmp_path, capsys):
    out = tmp_path / "tuned"
    assert call("tune", "demo", "--concept", "digits", "--out", out, *QUICK) == 0
    edit = (out / "edit.json").read_bytes()
    stored = {path.name: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
    assert len(stored) > 4
    capsys.readouterr()
    assert call("tune", "demo", "--concept", "digits", "--out", out, *QUICK, "--json") == 0
    told = capsys.readouterr()
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("cells/*.json")} == stored
    assert (out / "edit.json").read_bytes() == edit
    content = json.loads(told.out)
    assert content["recipe"] == "tune digits"
    assert {path.name for path in out.iterdir()} >= {"edit.json", "trials.csv", "tables.md", "results.csv", "figures"}
    drawn = demo_samples("digits", "test", limit=1)[0]
    drawn.image.save(tmp_path / "digit.png")
    asked = ("--prompt", drawn.text, "--image", tmp_path / "digit.png")
    assert call("generate", "demo", "--edit", out / "edit.json", *asked) == 0
    assert call("tune", "demo", "--concept", "colours", "--out", out, *QUICK) == 1
    assert "holds results of tune digits" in capsys.readouterr().err


def test_a_dry_run_runs_no_cell(tmp_path, capsys):
    out = tmp_path / "tuned"
    assert call("tune", "demo", "--concept", "rude", "--out", out, *QUICK, "--dry-run", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert not out.exists()
    # 4 trials, 3 fixed edits and the unedited model, on two tasks; on the test split 3 edits, and 10 draws on one task.
    assert sum(content["cells"].values()) == 2 * 8 + 2 * 3 + 10
    assert content["seconds"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--concept", "colourz"), "no built-in concept 'colourz'"),
        (("--concept", "colours", "--reach", "far"), "reach='far': give a number, or 'fixed'"),
        (("--concept", "colours", "--methods", "magic"), "methods='magic': choose one of"),
        (("--concept", "colours", "--where", "nowhere"), "where='nowhere'"),
        (("--concept", "colours", "--samples", "none.jsonl"), "none.jsonl"),
        (("--concept", "colours", "--scales", "1", "-1"), "scales from 1.0 to -1.0"),
    ],
)
def test_mistakes_cost_one_line(tmp_path, capsys, words, said):
    wrong_usage = {"--reach", "--methods", "--where"} & {*words}
    assert call("tune", "demo", *words, "--out", tmp_path / "out", *QUICK) == (2 if wrong_usage else 1)
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err.strip().splitlines()[-1]


def test_attribute_writes_heads(tmp_path, capsys):
    lines = []
    for number, one in enumerate(demo_samples("caption", "selection", limit=6)):
        one.image.save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"text": one.text, "image": f"{number}.png", "target": one.target}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    heads = tmp_path / "heads.json"
    words = ("attribute", "demo", "--concept", "colours", "--samples", tmp_path / "captions.jsonl", "--top", 2)
    assert call(*words, "--out", heads, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["method"] == "attribution"
    model = hp.load("demo", device="cpu")
    samples = [
        hp.Sample(text=one.text, image=one.image, target=one.target) for one in demo_samples("caption", "selection", limit=6)
    ]
    expected = hp.attribute(model, samples, hp.concept("colours"), progress=False)
    assert hp.load_heads(heads, model=model) == expected.top(2)
    assert content["heads"][0]["score"] == pytest.approx(expected.scores.max(), rel=1e-3)
