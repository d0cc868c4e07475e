"""Texts of the data folder."""

from __future__ import annotations

import json
from pathlib import Path


def file_of(folder: Path, pattern: str) -> Path:
    """The first file of that pattern; ends the run where there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {pattern}: see the head of tools/real/__main__.py for what is needed")
    return found[0]


def read_stories(folder: Path) -> list[str]:
    """TinyStories, in the file's order."""
    return [json.loads(line)["text"] for line in file_of(folder, "tinystories*.jsonl").read_text(encoding="utf-8").splitlines()]


def read_questions(folder: Path) -> list[str]:
    """Questions of TriviaQA, in the file's order."""
    return [one["Question"] for one in json.loads(file_of(folder, "triviaqa*.json").read_text(encoding="utf-8"))["Data"]]


def read_prompts(folder: Path, *, rude: bool) -> list[str]:
    """Prompts of RealToxicityPrompts, the challenging ones or the others, in the file's order."""
    lines = file_of(folder, "realtoxicityprompts*.jsonl").read_text(encoding="utf-8").splitlines()
    return [one["prompt"]["text"] for one in map(json.loads, lines) if one["challenging"] == rude]
