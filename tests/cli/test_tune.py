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
    words = ("tune", "demo", "--concept", "colours", "--out", out, *QUICK)
    assert call(*words) == 0
    edit = (out / "edit.json").read_bytes()
    stored = {path.name: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
    assert len(stored) > 4
    capsys.readouterr()
    assert call(*words, "--json") == 0
    told = capsys.readouterr()
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("cells/*.json")} == stored
    assert (out / "edit.json").read_bytes() == edit
    content = json.loads(told.out)
    assert content["recipe"] == "tune colours"
    assert {path.name for path in out.iterdir()} >= {"edit.json", "trials.csv", "tables.md", "results.csv", "figures"}
    drawn = demo_samples("digits", "test", limit=1)[0]
    drawn.image.save(tmp_path / "digit.png")
    asked = ("--prompt", drawn.text, "--image", tmp_path / "digit.png")
    assert call("generate", "demo", "--edit", out / "edit.json", *asked) == 0
    assert call("tune", "demo", "--concept", "digits", "--out", out, *QUICK) == 1
    assert "holds results of tune colours" in capsys.readouterr().err


def test_an_edit_that_moves_nothing_is_one_line_and_no_edit(tmp_path, capsys):
    out = tmp_path / "tuned"
    words = (
        "tune",
        "demo",
        "--concept",
        "colours",
        "--out",
        out,
        "--limit",
        8,
        "--trials",
        2,
        "--scales",
        0.98,
        0.99,
        "--no-per-head",
    )
    assert call(*words, "--methods", "somp", "--json") == 1
    told = capsys.readouterr()
    assert told.out == ""
    *_, line = told.err.strip().splitlines()
    assert line.startswith("headpursuit: no edit is written: on 8 test samples colours words of captioning changes by ")
    assert {"results.json", "trials.csv", "report.html"} <= {path.name for path in out.iterdir()}
    assert not (out / "edit.json").exists()
    (out / "edit.json").write_text("of an earlier run")
    assert call(*words, "--methods", "somp") == 1
    assert (out / "edit.json").read_text() == "of an earlier run"
    assert "edit.json is of an earlier run" in " ".join(capsys.readouterr().err.split())


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


def test_select_writes_heads(tmp_path, capsys):
    lines = []
    for number, one in enumerate(demo_samples("caption", "selection", limit=6)):
        one.image.save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"text": one.text, "image": f"{number}.png", "target": one.target}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    heads = tmp_path / "heads.json"
    words = ("select", "demo", "--concept", "colours", "--samples", tmp_path / "captions.jsonl", "--top", 2)
    assert call(*words, "--method", "attribution", "--out", heads, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["method"] == "attribution"
    model = hp.load("demo", device="cpu")
    samples = [
        hp.Sample(text=one.text, image=one.image, target=one.target) for one in demo_samples("caption", "selection", limit=6)
    ]
    expected = hp.select(model, samples, "colours", method="attribution", progress=False)
    assert hp.load_heads(heads, model=model) == expected.top(2)
    assert content["heads"][0]["score"] == pytest.approx(expected.scores.max(), rel=1e-3)
    known = ("--method", "knockout", "--masks", 20, "--share", 0.1, "--neutral", tmp_path / "captions.jsonl")
    assert call(*words, *known, "--order", "effect_per_cost", "--measured", tmp_path / "masks") == 0
    told = capsys.readouterr()
    assert "score in nats a neutral nat" in " ".join(told.out.split())
    assert "cost: 170 rows forward, 0 backward" in told.err  # the targets of two speak of no colour
    assert len(list((tmp_path / "masks").glob("*.json"))) == 2 * 21  # on the samples, and on the neutral texts
    assert call(*words, "--method", "cosine", "--masks", 20) == 1
    assert "--method cosine takes no --masks" in capsys.readouterr().err
