"""Every block of code of the front page and the site runs, on the demo or a tiny model, unless the page says that it does not.

A block is left alone where the paragraph in front of it, or the heading that it stands under, says *needs a large model* or
*not run here*. Python runs in one namespace a page, commands of this package in this process, and files that a page shows are
there.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

import gguf_made
import headpursuit as hp
import tiny
from command import call
from exporting import saved
from headpursuit.data.demo import demo_records
from headpursuit.demo import demo_samples

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=fence)", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"needs a large model|not run here", re.IGNORECASE)
NAMED = re.compile(r"`([\w./]+\.(?:toml|json|jsonl|yaml))`:$")
CITIES = ("Paris", "Tokyo", "Nairobi", "Lima", "Oslo", "Cairo")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    file: str
    marked: bool


def blocks(page: Path) -> Iterator[Block]:
    text, marked, end = page.read_text(encoding="utf-8"), False, 0
    for found in BLOCK.finditer(text):
        before = text[end : found.start()].strip()
        if before:  # a block that follows another at once shares its mark
            headings = ["", *re.findall(r"^#+ .*", text[: found.start()], re.MULTILINE)]
            marked = bool(MARK.search(before.split("\n\n")[-1]) or MARK.search(headings[-1]))
        named = NAMED.search(before)
        yield Block(found["language"], found["code"], named[1] if named else "", marked)
        end = found.end()


def commands(code: str) -> Iterator[str]:
    """The lines of a block, without a prompt, a comment, or what is said of a line beside it."""
    for line in code.replace("\\\n", "").splitlines():
        line = re.split(r"\s{3,}|\s# ", line.strip().removeprefix("$ "))[0]
        if line:
            yield line


def captions(path: str, *, limit: int = 24) -> list[hp.Sample]:
    Path("images").mkdir(exist_ok=True)
    rows = []
    for number, one in enumerate(demo_samples("caption", "selection", limit=limit)):
        one.image.save(f"images/{number}.png")
        rows.append({"text": one.text, "image": f"images/{number}.png", "target": one.target})
    Path(path).write_text("\n".join(map(json.dumps, rows)))
    return [hp.Sample(row["text"], image=row["image"], target=row["target"]) for row in rows]


def questions(path: str = "questions.txt") -> None:
    Path(path).write_text("\n".join(f"Which country has {city} as its capital?" for city in CITIES))


def front_page() -> tuple[dict[str, object], dict[str, str]]:
    questions()
    return {}, {"mistralai/Mistral-7B-Instruct-v0.2": "demo"}


def start() -> tuple[dict[str, object], dict[str, str]]:
    questions()
    return {}, {"--out digits": "--out digits --limit 4 --set edit.k=[1] --set edit.draws=2"}


def asked() -> tuple[dict[str, object], dict[str, str]]:
    questions()
    return {}, {}


def pictured() -> tuple[dict[str, object], dict[str, str]]:
    captions("captions.jsonl")
    return {"acts": hp.capture(hp.load("demo"), captions("more.jsonl"), progress=False)}, {}


def sure() -> tuple[dict[str, object], dict[str, str]]:
    hp.capture(hp.load("demo"), captions("captions.jsonl"), positions="last", out="acts", progress=False)
    return {}, {}


def suppress() -> tuple[dict[str, object], dict[str, str]]:
    captions("prompts.jsonl")
    shutil.copy("images/0.png", "picture.png")
    return {}, {}


def architecture() -> tuple[dict[str, object], dict[str, str]]:
    return {"tokenizer": tiny.tokenizer()}, {}


def recipes() -> tuple[dict[str, object], dict[str, str]]:
    records = demo_records("demo-countries", split="test", limit=40, seed=0)
    rows = [{"text": record.text, "answers": list(record.answers)} for record in records]
    Path("questions.txt").write_text("\n".join(row["text"] for row in rows))
    Path("statements.txt").write_text("\n".join(f"{row['answers'][0]} has a capital." for row in rows))
    Path("questions.jsonl").write_text(
        "\n".join(json.dumps({"question": one["text"], "aliases": one["answers"]}) for one in rows)
    )
    return {"rows": rows}, {}


def selection() -> tuple[dict[str, object], dict[str, str]]:
    rows = demo_records("demo-captions", split="selection", limit=8, seed=0)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.references[0]) for one in rows]
    given = {"model": hp.load("demo", device="cpu"), "samples": samples, "neutral": ["two cats sleep"], "prompts": samples}
    return {"hp": hp, **given}, {}


def names() -> tuple[dict[str, object], dict[str, str]]:
    questions()
    hp.capture(hp.load("demo"), "questions.txt", out="acts", progress=False)
    return {}, {}


def tuning() -> tuple[dict[str, object], dict[str, str]]:
    given = {"hp": hp, "model": hp.load("demo"), "samples": captions("captions.jsonl")}
    small = "--trials 6 --k 3 --draws 2"
    captions("prompts.jsonl", limit=64)
    return given, {
        "MODEL": "demo",
        "tune demo --concept colours": f"tune demo --concept colours {small} --limit 24",
        "neutral=0.05": f"neutral=0.5 {small} --positions last",
        "k=8).top(8)": "k=2).top(2)",
    }


def export() -> tuple[dict[str, object], dict[str, str]]:
    """Text models for what other programs read; the model of the GGUF section is a file of its own."""
    model = hp.load("demo")
    samples = captions("samples.jsonl")
    acts = hp.capture(model, samples, positions="last", progress=False)
    for name in ("colours", "quantity"):
        hp.rank(acts, name, progress=False).save(f"{name}.json", top=3 if name == "quantity" else 2)
    hp.rank(acts, "colours", progress=False).save("heads.json", top=2)
    shutil.copy("images/0.png", "picture.png")
    questions()
    gguf_made.write(Path("model.gguf"), kind="Q8_0", head_width=32)
    folder = saved.save("llama", Path("llama"), torch.float32)
    edit = hp.HeadEdit(["L0.H1", "L1.H2"], scale=-1)
    hp.export(folder, edit, "edited-text", progress=False)
    hp.export(folder, edit, "adapter-text", format="lora", progress=False)
    task = yaml.safe_load(next(one.code for one in blocks(ROOT / "docs" / "export.md") if one.language == "yaml"))
    Path("my_tasks").mkdir()
    data = {"question": "the sky is", "choices": [" blue", " green"], "answer": 0}
    Path("data.jsonl").write_text("\n".join([json.dumps(data)] * 3))
    task["dataset_kwargs"]["data_files"]["test"] = str(Path("data.jsonl").resolve())
    Path("my_tasks/colours.yaml").write_text(yaml.safe_dump(task))
    text = hp.load(folder)
    return {"base": text.hf, "edit": edit, "text_model": text}, {
        "MODEL": "demo",
        "TEXT": "'What is in this picture?'",
        "FILE": "picture.png",
        '"edited/"': '"edited-text"',
        '"adapter/"': '"adapter-text"',
        "pretrained=model.hf, tokenizer=model.tokenizer": "pretrained=text_model.hf, tokenizer=text_model.tokenizer",
        "with edit.applied(model)": "with edit.applied(text_model)",
        "--concept countries --out heads.json": "--concept red,blue,green --out gguf-heads.json",
        "export model.gguf --heads heads.json": "export model.gguf --heads gguf-heads.json",
        "export model.gguf --edit edit.json --out edited.gguf": "export model.gguf --head L0.H1 --scale -1 --out first.gguf",
        "--out acts/": "--out gguf-acts/",
        "rank acts/": "rank gguf-acts/",
    }


PREPARED = {
    "README.md": front_page,
    "docs/start.md": start,
    "docs/learn/sure.md": sure,
    "docs/atlas.md": pictured,
    "docs/howto/own.md": asked,
    "docs/howto/suppress.md": suppress,
    "docs/howto/architecture.md": architecture,
    "docs/recipes.md": recipes,
    "docs/selection.md": selection,
    "docs/names.md": names,
    "docs/tuning.md": tuning,
    "docs/export.md": export,
}


def changed(text: str, replace: dict[str, str]) -> str:
    for old, new in replace.items():
        text = text.replace(old, new)
    return text


def run(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    else:
        assert program == "headpursuit", f"{line}: run it, or say before the block that it is not run here"
        assert "[OPTIONS]" in words or call(*words) == 0, line


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = list(blocks(page))
    given, replace = PREPARED[name]() if (name := str(page.relative_to(ROOT))) in PREPARED else ({}, {})
    for one in shown:
        if one.language == "toml":
            tomllib.loads(one.code)
        elif one.language == "json":
            assert [json.loads(line) for line in one.code.splitlines()]
        elif one.language == "yaml":
            assert yaml.safe_load(one.code)
        if one.file and not Path(one.file).exists():
            Path(one.file).write_text(one.code)
    for one in [one for one in shown if not one.marked]:
        code = changed(one.code, replace)
        if one.language == "python":
            exec(compile(code, str(page), "exec"), given)
        elif one.language in ("", "console"):
            for line in commands(code):
                run(line)
        else:
            assert one.language in ("toml", "json", "yaml"), f"{page}: a block of {one.language}"
    CHECKS.get(name, lambda *_: None)(given, capsys.readouterr().out)


def check_front_page(given, shown):
    assert hp.HeadRanking.load("heads.json") == given["ranking"]
    assert "L3.H11: " in shown


def check_recipes(given, shown):
    results = hp.Results.load("run")
    assert {row.metric for row in results.rows} >= {"exact", "countries words"}
    assert results.concepts[0].verdicts
    assert {row.selection for row in given["results"].rows} == {"none", "somp", "logit_lens", "random"}
    assert Path("effects.png").is_file()
    (second,) = [one.code for one in blocks(ROOT / "docs" / "recipes.md") if "[select]" in one.code]
    Path("choices.toml").write_text(second)
    curves = hp.evaluate("choices.toml", limit=12, progress=False).curves
    assert {one.concept for one in curves} == {"countries", "questions"}


CHECKS = {"README.md": check_front_page, "docs/recipes.md": check_recipes}


def test_blocks_and_marks_are_found(tmp_path):
    page = tmp_path / "page.md"
    run, one, two = (f"```\n{code}\n```" for code in ("run", "one", "two"))
    page.write_text("\n\n".join(["Do:", run, "*Needs a large model:*", one, two, "Do:", run, "## Not run here", "Do:", two]))
    found = [(one.code.strip(), one.marked) for one in blocks(page)]
    assert found == [("run", False), ("one", True), ("two", True), ("run", False), ("two", True)]
    assert sum(not one.marked for page in PAGES for one in blocks(page)) > 30
