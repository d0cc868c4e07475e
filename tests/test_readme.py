"""The front page's Python runs, on the demo model and with a small file of questions."""

from __future__ import annotations

import re
from pathlib import Path

import headpursuit as hp

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
