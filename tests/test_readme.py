"""The Python of the front page and of the page on recipes runs, on the demo model and with small files of questions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import headpursuit as hp
from headpursuit.data.demo import demo_records

README = Path(__file__).parents[1] / "README.md"
CHECKPOINT = "mistralai/Mistral-7B-Instruct-v0.2"


def test_the_python_of_the_front_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    countries = ("France", "Japan", "Kenya", "Peru", "Norway", "Egypt")
    Path("questions.txt").write_text("\n".join(f"What is the capital of {country}?" for country in countries))
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    assert CHECKPOINT in blocks[0]
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace(CHECKPOINT, "demo"), names)
    assert hp.HeadRanking.load("heads.json") == names["ranking"]
    shown = capsys.readouterr().out
    assert "L2.H14: " in shown


def test_the_recipe_and_the_python_of_the_documents_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (README.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    records = demo_records("demo-countries", split="test", limit=40, seed=0)
    rows = [{"text": record.text, "answers": list(record.answers)} for record in records]
    toml, comparison = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (python,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    Path("capitals.toml").write_text(toml)
    Path("choices.toml").write_text(comparison)
    Path("questions.txt").write_text("\n".join(row["text"] for row in rows))
    Path("statements.txt").write_text("\n".join(f"{row['answers'][0]} has a capital." for row in rows))
    Path("questions.jsonl").write_text(
        "\n".join(json.dumps({"question": row["text"], "aliases": row["answers"]}) for row in rows)
    )
    results = hp.evaluate("capitals.toml", progress=False)
    assert {row.metric for row in results.rows} >= {"exact", "countries words"}
    assert results.concepts[0].verdicts
    names: dict[str, object] = {"rows": rows}
    exec(python, names)
    loaded = names["results"]
    assert {row.selection for row in loaded.rows} == {"none", "somp", "logit_lens", "random"}
    assert Path("effects.png").is_file()
    curves = hp.evaluate("choices.toml", limit=12, progress=False).curves
    assert {one.concept for one in curves} == {"countries", "questions"}


def test_the_python_of_the_page_on_selection_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (README.parent / "docs" / "selection.md").read_text(encoding="utf-8")
    rows = demo_records("demo-captions", split="selection", limit=8, seed=0)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.references[0]) for one in rows]
    model = hp.load("demo", device="cpu")
    given = {"hp": hp, "model": model, "samples": samples, "neutral": ["two cats sleep"], "prompts": samples}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, given)
    assert given["concept"].words
