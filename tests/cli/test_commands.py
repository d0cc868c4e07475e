"""The command line, in process: what it prints, what it writes, how it fails."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import headpursuit as hp
import tiny
from command import call
from model.test_contracts import prompts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, samples, a capture and a heads file, all made by the commands themselves."""
    root = tmp_path_factory.mktemp("cli")
    tiny.hf_model("llava").save_pretrained(root / "model")
    tiny.processor("llava").save_pretrained(root / "model")
    lines = []
    for number, sample in enumerate(prompts(tiny.tiny("llava")) * 2):
        sample.image.save(root / f"{number}.png")
        lines.append(json.dumps({"text": f"{sample.text} {number}", "image": f"{number}.png", "target": "red"}))
    (root / "samples.jsonl").write_text("\n".join(lines))
    (root / "words.txt").write_text("# colours\nred\nblue\nyellow\n")
    return root


@pytest.fixture(scope="module")
def acts(folder):
    assert call("capture", folder / "model", "--samples", folder / "samples.jsonl", "--out", folder / "acts") == 0
    return folder / "acts"


@pytest.fixture(scope="module")
def heads(folder, acts):
    assert call("rank", acts, "--concept", folder / "words.txt", "--top", 3, "--out", folder / "heads.json") == 0
    return folder / "heads.json"


def call_json(capsys, *words):
    capsys.readouterr()
    assert call(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_prompt_shows_what_the_model_reads(folder, capsys):
    told = call_json(capsys, "prompt", folder / "model", "--samples", folder / "samples.jsonl", "--limit", 2)
    model = hp.load(folder / "model", device="cpu")
    assert told["samples"] == [one.to_dict() for one in hp.tokens(model, str(folder / "samples.jsonl"), limit=2)]
    assert len(told["samples"]) == 2
    assert call("prompt", folder / "model", "--samples", folder / "samples.jsonl", "--positions", "image") == 0
    shown = capsys.readouterr().out
    assert shown.count("counted at positions image") == 3
    assert "samples.jsonl line 1" in shown
    assert call("prompt", folder / "model", "--samples", folder / "samples.jsonl", "--positions", "some") == 2


def test_capture_tells_what_it_did(folder, acts, capsys):
    told = call_json(
        capsys,
        "capture",
        folder / "model",
        "--samples",
        folder / "samples.jsonl",
        "--out",
        folder / "few",
        "--positions",
        "image",
        "--limit",
        5,
        "--seed",
        3,
    )
    assert (told["n"], told["heads"], told["positions"], told["skipped"]) == (5, 12, "image", [])
    assert told["model"]["architecture"] == "LlavaForConditionalGeneration"


def test_another_part_is_captured_and_edited(folder, capsys, tmp_path):
    samples = ("--samples", folder / "samples.jsonl")
    told = call_json(capsys, "capture", folder / "model", *samples, "--out", tmp_path / "acts", "--part", "vision")
    assert (told["model"]["part"], told["n"], told["heads"]) == ("vision", 8, 4)
    prompt = ("--prompt", "two cats", "--image", folder / "0.png", "--max-new-tokens", 2)
    told = call_json(capsys, "generate", folder / "model", "--head", "L0.V1", *prompt)
    assert [entry["name"] for entry in told["edit"]["heads"]] == ["L0.V1"]
    assert call("capture", folder / "model", *samples, "--out", tmp_path / "no", "--part", "ears") == 2
    assert "part='ears': choose one of text, cross, vision" in capsys.readouterr().err
    assert call("capture", folder / "model", *samples, "--out", tmp_path / "no", "--through-norm") == 1
    assert "leave through_norm out" in capsys.readouterr().err


def test_describe_names_heads(acts, capsys, tmp_path):
    told = call_json(capsys, "describe", acts, "--head", "L2.H1", "--head", "L0.H0", "--n-atoms", 3)
    assert [head["name"] for head in told["heads"]] == ["L2.H1", "L0.H0"]
    assert all(len(head["tokens"]) == 3 for head in told["heads"])
    assert call("describe", acts, "--plot", tmp_path / "names.svg") == 0
    assert capsys.readouterr().out.count(".H") == 12
    assert (tmp_path / "names.svg").read_text().count(".H") == 12
    lens = call_json(capsys, "describe", acts, "--method", "logit-lens", "--head", "L2.H1")
    assert lens["heads"][0]["explained_variance"] is None


def test_atlas_writes_pages_and_names_their_entrance(acts, folder, capsys, tmp_path):
    options = ("--concept", "red,blue", "--significance", 10, "--samples", folder / "samples.jsonl")
    told = call_json(capsys, "atlas", acts, "--out", tmp_path / "atlas", *options)
    assert told["heads"] == len(list((tmp_path / "atlas" / "heads").iterdir())) == 12
    assert told["atlas"] == str(tmp_path / "atlas" / "index.html")
    assert call("atlas", acts, "--out", folder) == 1
    assert "holds no atlas" in capsys.readouterr().err


def test_rank_draws_its_map(acts, tmp_path, capsys):
    assert call("rank", acts, "--concept", "colours", "--plot", tmp_path / "map.png") == 0
    with Image.open(tmp_path / "map.png") as image:
        assert min(image.size) > 200


def test_describe_says_what_chance_gives_and_shows_examples(acts, folder, capsys):
    options = ("--dictionary", "words", "--significance", 20, "--examples", 2, "--samples", folder / "samples.jsonl")
    told = call_json(capsys, "describe", acts, "--n-atoms", 2, *options)
    assert told["dictionary"] == "words"
    assert all(head["named"] == (head["evidence"]["q"] <= 0.05) and len(head["examples"]) == 2 for head in told["heads"])
    assert call("describe", acts, "--n-atoms", 2, *options) == 0
    shown = capsys.readouterr()
    assert shown.out.count("no name better than chance") == sum(not head["named"] for head in told["heads"])
    assert "by chance" in shown.out
    assert told["heads"][0]["examples"][0]["text"][:20] in shown.out
    assert "against 20 random turns" in shown.err


def test_rank_and_generate_carry_heads_along(folder, heads, capsys):
    assert len(json.loads(heads.read_text())["heads"]) == 3
    told = call_json(
        capsys,
        "generate",
        folder / "model",
        "--heads",
        heads,
        "--scale",
        -1,
        "--prompt",
        "two cats",
        "--image",
        folder / "0.png",
        "--max-new-tokens",
        6,
    )
    assert [head["scale"] for head in told["edit"]["heads"]] == [-1, -1, -1]
    assert told["outputs"][0]["edited"] != told["outputs"][0]["unedited"]
    assert call("generate", folder / "model", "--head", "L1.H1", "--prompt", "two cats", "--max-new-tokens", 3) == 0
    assert "L1.H1 × -1" in capsys.readouterr().out


def test_generate_edits_chosen_tokens_and_takes_a_saved_edit(folder, heads, tmp_path, capsys):
    model = tiny.tiny("llava")
    asked = ("generate", folder / "model", "--prompt", "two cats", "--image", folder / "0.png", "--max-new-tokens", 6)
    of_image = call_json(capsys, *asked, "--heads", heads, "--where", "image", "--scale", 3)
    assert {head["where"] for head in of_image["edit"]["heads"]} == {"image"}
    edit = hp.HeadEdit(hp.load_heads(heads, model=model), scale=3, where="image")
    edit.save(tmp_path / "edit.json", model=model)
    saved = call_json(capsys, *asked, "--edit", tmp_path / "edit.json")
    assert saved == of_image


@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_export_and_verify(folder, heads, tmp_path, capsys, format):
    command = ("export", folder / "model", "--heads", heads, "--scale", -1, "--format", format)
    told = call_json(capsys, *command, "--out", tmp_path / "out")
    layers = {head["layer"] for head in told["edit"]["heads"]}
    assert (told["format"], len(told["changed"])) == (format, len(layers))
    found = call_json(capsys, "verify", tmp_path / "out", "--samples", folder / "samples.jsonl")
    assert found["ok"]
    assert (found["n"], found["bit_equal"] or format != "checkpoint") == (8, True)
    assert found["differing"] == (told["changed"] if format == "checkpoint" else [])
    assert call(*command, "--out", tmp_path / "out") == 0
    assert f"{tmp_path / 'out'} is complete already" in capsys.readouterr().err
    assert call("export", folder / "model", "--head", "L1.H2", "--out", tmp_path / "out") == 1
    assert "is not empty" in capsys.readouterr().err


def test_verify_fails_loudly(folder, tmp_path, capsys):
    assert call("export", folder / "model", "--head", "L1.H1", "--out", tmp_path / "out") == 0
    assert f"checkpoint in {tmp_path / 'out'}: L1.H1 × -1 (1 tensors)" in capsys.readouterr().out
    with (tmp_path / "out" / "model.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"wrong")
    assert call("verify", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "is not the edit that it says it is" in told.err
    assert "differs from the original: " in told.out


@pytest.mark.parametrize("policy", ["skip", "first"])
def test_rank_tells_which_words_it_left_out(acts, capsys, policy):
    assert call("rank", acts, "--concept", "blue,chrysanthemum,antidisestablishment", "--multi-token", policy) == 0
    told = capsys.readouterr().err
    left_out = "2 of 3 words are no single token here and were left out: chrysanthemum, antidisestablishment; --multi-token"
    assert (left_out in told) == (policy == "skip")


def test_rank_by_logit_lens(acts, capsys):
    told = call_json(capsys, "rank", acts, "--concept", "colours", "--method", "logit-lens", "--top", 99)
    assert told["method"] == "logit_lens"
    assert len(told["heads"]) == 12


def test_rank_beside_chance_and_disturbed_data(folder, acts, capsys):
    words = ["rank", acts, "--concept", folder / "words.txt", "--method", "somp", "--top", 4]
    plain = call_json(capsys, *words)
    words += ["--significance", 20, "--stability", 3]
    told = call_json(capsys, *words, "--out", folder / "tested.json", "--frequencies", folder / "words.txt", "--seed", 2)
    assert told["significance"]["draws"] == 20
    assert told["significance"]["matched"] == ["norm", "frequency"]
    assert told["stability"]["k"] == 4
    assert {"score", "null", "z", "p", "p_counted", "q", "stays_samples", "stays_words"} < set(told["heads"][0])
    stored = json.loads((folder / "tested.json").read_text())
    assert {key: value for key, value in stored.items() if key not in ("format", "sha256")} | {"seed": 2} == told
    # A reader that knows nothing of these keys reads the same heads.
    known = ("layer", "head", "name", "score")
    assert [{key: head[key] for key in known} for head in told["heads"]] == plain["heads"]
    words = ["generate", folder / "model", "--heads", folder / "tested.json", "--prompt", "two cats", "--max-new-tokens", 2]
    assert call(*words) == 0
    assert call("rank", acts, "--concept", folder / "words.txt", "--significance", 20, "--stability", 3) == 0
    shown = capsys.readouterr()
    assert "stays (samples)" in shown.out
    assert "20 random token sets matched in norm" in shown.err


def test_frequencies_are_read_by_the_field_that_is_named(folder, acts, tmp_path, capsys):
    words = ["rank", acts, "--concept", folder / "words.txt", "--significance", 4]
    (tmp_path / "texts.jsonl").write_text(json.dumps({"story": "red and blue", "title": "a", "x": 1}))
    told = call_json(capsys, *words, "--frequencies", tmp_path / "texts.jsonl", "--text-column", "story")
    (tmp_path / "texts.txt").write_text("red and blue")
    assert told == call_json(capsys, *words, "--frequencies", tmp_path / "texts.txt")
    assert call(*words, "--frequencies", tmp_path / "texts.jsonl") == 1
    assert "texts.jsonl line 1: neither text nor image" in capsys.readouterr().err
    assert call("rank", acts, "--concept", "red", "--text-column", "story") == 1
    assert "give --frequencies FILE, too" in capsys.readouterr().err


def test_json_has_no_number_that_is_none(capsys):
    import numpy as np

    from headpursuit.cli.output import print_json

    nan, inf = float("nan"), float("inf")
    print_json({"a": nan, "b": [inf, (-inf, 1.5)], "c": {"d": np.float64("nan")}, "e": "NaN", "f": None, "g": 0})
    told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert told == {"a": None, "b": [None, [None, 1.5]], "c": {"d": None}, "e": "NaN", "f": None, "g": 0}


def test_compare(folder, heads, acts, capsys):
    other = folder / "more.json"
    assert call("rank", acts, "--concept", "colours", "--method", "logit-lens", "--top", 5, "--out", other) == 0
    told = call_json(capsys, "compare", heads, other, "--top", 3, "--plot", folder / "overlap.svg")
    sets = [{head["name"] for head in json.loads(file.read_text())["heads"][:3]} for file in (heads, other)]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert told["jaccard"] == [[1, pytest.approx(expected)], [pytest.approx(expected), 1]]
    assert (folder / "overlap.svg").read_text().startswith("<?xml")
    # Two files of one concept, as from two data sets, are told apart by their paths.
    same = folder / "same.json"
    same.write_text(heads.read_text())
    assert call_json(capsys, "compare", heads, same)["names"] == [str(heads), str(same)]
    assert call("compare", heads, same) == 0
    assert "1.00" in capsys.readouterr().out


def test_map(folder, acts, capsys):
    words = ["map", acts, "--concept", folder / "words.txt", "--concept", "colours"]
    told = call_json(capsys, *words, "--out", folder / "map.csv", "--plot", folder / "map.png")
    assert told["concepts"] == ["words", "colours"]
    assert len(told["heads"]) == len(told["table"][0]) == 12
    assert (folder / "map.csv").read_text().splitlines()[0].split(",") == ["concept", *told["heads"]]
    assert call_json(capsys, *words, "--significance", 8)["values"] == "z"
    assert call(*words) == 0
    assert "best heads" in capsys.readouterr().out


def test_words_on_the_command_line_are_a_concept(acts, capsys, tmp_path):
    out = tmp_path / "sub" / "folder" / "heads.json"
    told = call_json(capsys, "rank", acts, "--concept", "red,blue", "--top", 2, "--out", out)
    assert told["concept"] == "red, blue"
    assert [head["name"] for head in told["heads"]] == [head.name for head in hp.HeadRanking.load(out).top(2)]
    told = call_json(capsys, "map", acts, "--concept", "red,blue", "--concept", "cats,dog", "--out", tmp_path / "a/b.csv")
    assert told["concepts"] == ["red, blue", "cats, dog"]
    assert call_json(capsys, "concepts", "tea,cups")["words"] == ["tea", "cups"]


def test_fields_of_samples_are_named_and_a_limit_stops_reading(folder, capsys, tmp_path):
    lines = [json.dumps({"q": {"said": text}, "a": "red"}) for text in ("one", "two")]
    (tmp_path / "s.jsonl").write_text("\n".join([*lines, "no JSON"]))
    capture = ("capture", folder / "model", "--samples", tmp_path / "s.jsonl", "--out", tmp_path / "acts", "--limit", 2)
    assert call(*capture) == 1
    assert "s.jsonl line 1: neither text nor image; " in capsys.readouterr().err
    told = call_json(capsys, *capture, "--text-column", "q.said", "--target-column", "a")
    given = [hp.Sample("one", target="red"), hp.Sample("two", target="red")]
    assert told["data"] == hp.capture(tiny.tiny("llava"), given, progress=False).about["data"]


def test_a_concept_that_looks_like_a_formula_is_none_in_a_table(folder, acts, capsys, tmp_path):
    (tmp_path / "=1+1.txt").write_text("red\nblue\n")
    assert call("map", acts, "--concept", tmp_path / "=1+1.txt", "--concept", "colours", "--out", tmp_path / "map.csv") == 0
    assert [line.split(",")[0] for line in (tmp_path / "map.csv").read_text().splitlines()] == ["concept", "'=1+1", "colours"]


def test_the_first_samples_or_drawn_ones(folder, capsys, tmp_path):
    capture = ("capture", folder / "model", "--samples", folder / "samples.jsonl")
    told = call_json(capsys, *capture, "--out", tmp_path / "first", "--limit", 5)
    model = tiny.tiny("llava")
    first = hp.capture(model, folder / "samples.jsonl", limit=5, progress=False)
    assert told["data"] == first.about["data"]
    if "sample" not in inspect.signature(hp.capture).parameters:
        pytest.skip("a capture draws no samples yet")
    told = call_json(capsys, *capture, "--out", tmp_path / "drawn", "--sample", 5, "--seed", 3)
    drawn = hp.capture(model, folder / "samples.jsonl", sample=5, seed=3, progress=False)
    assert told["data"] == drawn.about["data"] != first.about["data"]


def test_concepts(capsys):
    names = {one["name"] for one in call_json(capsys, "concepts")["concepts"]}
    assert {"colours", "countries", "nationalities", "months", "weekdays", "numbers", "quantity", "rude", "digits"} <= names
    assert "red" in call_json(capsys, "concepts", "colours")["words"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["capture", "/no/model", "--samples", "{samples}", "--out", "{new}"], "could not be opened as a model"),
        (["capture", "{model}", "--samples", "/no/file.txt", "--out", "{new}"], "there is no file '/no/file.txt'"),
        (["capture", "{model}", "--samples", "{samples}", "--out", "{acts}", "--limit", "3"], "is not empty"),
        (["capture", "{model}", "--samples", "{samples}", "--out", "{new}", "--positions", "middle"], "choose one of mean"),
        (["describe", "/no/acts"], "is no capture"),
        (["atlas", "/no/acts", "--out", "{new}"], "is no capture"),
        (["atlas", "{acts}", "--out", "{new}", "--dictionary", "colours"], "--dictionary colours: all, words"),
        (["describe", "{acts}", "--head", "L9.H9"], "no head L9.H9"),
        (["rank", "{acts}", "--concept", "/no/words.txt"], "/no/words.txt"),
        (["rank", "{acts}", "--concept", "colours", "--method", "magic"], "choose one of calibrated, somp"),
        (["rank", "{acts}", "--concept", "colours", "--frequencies", "{samples}"], "give --significance N, too"),
        (["rank", "{acts}", "--concept", "colours", "--significance", "9", "--tail", "long"], "choose one of fitted"),
        (["rank", "{acts}", "--concept", "colours", "--out", "{acts}"], "is a folder: choose another name"),
        (["rank", "{acts}", "--concept", "colours", "--out", "{heads}/x.json"], "heads.json is a file: choose another"),
        (["map", "{acts}", "--concept", "colours", "--plot", "map.gif"], "ends in .png or .svg"),
        (["capture", "{model}", "--samples", "{samples}", "--out", "{samples}"], "samples.jsonl is a file: choose"),
        (["compare", "/no/heads.json", "{heads}"], "there is no file /no/heads.json"),
        (["compare", "{heads}"], "give at least two"),
        (["compare", "{heads}", "{heads}", "--top", "4"], "nothing to be compared with"),
        (["map", "{acts}", "--concept", "colours", "--concept", "colors"], "a name of its own"),
        (["keywords", "/no/answers.txt", "--kind", "toxic", "--model", "m", "--out", "{new}"], "no endpoint"),
        (["generate", "{model}", "--prompt", "a", "--heads", "/no/heads.json"], "there is no file /no/heads.json"),
        (["generate", "{model}", "--prompt", "a", "--head", "L7.H0"], "no attention layer L7"),
        (["generate", "{model}", "--prompt", "a", "--head", "L0.H0", "--where", "there"], "choose one of all"),
        (["generate", "{model}", "--prompt", "a", "--where", "image"], "name them with --heads"),
        (["generate", "{model}", "--prompt", "a", "--edit", "/no/edit.json"], "there is no file /no/edit.json"),
        (["generate", "{model}", "--prompt", "a", "--edit", "x", "--head", "L0.H0"], "give only one of"),
        (["generate", "{model}", "--prompt", "a", "--image", "/no/image.png"], "cannot be read"),
        (["export", "{model}", "--out", "{new}"], "nothing to export"),
        (["export", "{model}", "--out", "{model}", "--head", "L0.H0"], "the model's own folder"),
        (["export", "{model}", "--out", "{new}", "--head", "L0.H0", "--format", "magic"], "choose one of checkpoint"),
        (["verify", "{model}"], "holds no export"),
        (["report", "/no/run"], "there is no folder /no/run"),
        (["concepts", "no-such-concept"], "no-such-concept"),
    ],
)
def test_a_mistake_is_one_line_and_exit_1_or_2(folder, acts, heads, capsys, monkeypatch, words, message):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    places = {"model": folder / "model", "samples": folder / "samples.jsonl", "acts": acts, "new": folder / "new"}
    places["heads"] = heads
    capsys.readouterr()
    wrong_usage = "choose one of" in message or "ends in" in message
    assert call(*(word.format(**places) for word in words)) == (2 if wrong_usage else 1)
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("headpursuit: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in told.err
    assert told.out == ""
    assert not (folder / "new").exists()


WRONG = [
    ["capture", "demo", "--samples", "no.txt", "--out", "x"],
    ["capture", "demo", "--samples", __file__, "--out", f"{__file__}/x"],
    ["describe", "no-acts"],
    ["describe", ".", "--head", "first"],
    ["describe", ".", "--dictionary", "no.txt"],
    ["describe", ".", "--examples", "3"],
    ["rank", "no-acts", "--concept", "red,blue"],
    ["rank", ".", "--concept", "no.txt"],
    ["rank", ".", "--concept", "red,blue", "--method", "magic"],
    ["map", ".", "--concept", "red,blue", "--plot", "map.gif"],
    ["compare", "no.json", "no.json"],
    ["select", "demo", "--samples", "no.txt", "--concept", "red,blue"],
    ["select", "demo", "--samples", __file__, "--concept", "red,blue", "--method", "magic"],
    ["rank", ".", "--concept", "red,blue", "--method", "knockout"],
    ["generate", "demo", "--prompt", "a", "--heads", "no.json"],
    ["generate", "demo", "--prompt", "a", "--edit", "no.json"],
    ["generate", "demo", "--prompt", "a", "--image", "no.png"],
    ["export", "demo", "--head", "L0.H0", "--out", f"{__file__}/x"],
    ["concepts", "zebras"],
]


def test_a_wrong_name_is_told_before_torch_is_imported(tmp_path):
    """In a process in which importing torch fails."""
    code = "import json, sys; sys.modules['torch'] = None; from command import call\n"
    code += "for words in json.loads(sys.argv[1]): assert call(*words) == 1 + bool({'magic', 'map.gif'} & {*words}), words\n"
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(WRONG)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(WRONG), lines
    assert all(line.startswith("headpursuit: ") for line in lines)


@pytest.mark.parametrize("words", [["rank"], ["describe", "x", "--n-atoms", "0"], ["nonsense"]])
def test_wrong_usage_is_exit_2(words):
    assert call(*words) == 2


def test_help_loads_no_torch():
    code = (
        "import sys; sys.argv = ['headpursuit', '--help']\n"
        "from headpursuit.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("False")
    assert "describe" in done.stdout


def test_the_installed_command_runs():
    done = subprocess.run([sys.executable, "-m", "headpursuit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("headpursuit ")


def test_the_documented_help_is_current(tmp_path):
    command = ["typer", "headpursuit.cli.main", "utils", "docs", "--name", "headpursuit", "--title", "The command line"]
    python = Path(sys.executable)
    subprocess.run(
        [python.with_name(command[0]), *command[1:], "--output", tmp_path / "cli.md"], capture_output=True, check=True
    )
    stored = Path(__file__).parents[2] / "docs" / "cli.md"
    assert (tmp_path / "cli.md").read_text() == stored.read_text(), "run `make docs`"


def test_the_table_of_architectures(capsys):
    assert call("models", "--json", "--state", "supported") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"type": "llama", "mapping": "causal-lm", "state": "supported", "reason": ""} in found["models"]
    assert all(row["state"] == "supported" for row in found["models"])
    assert call("models", "mamba") == 0
    shown = capsys.readouterr().out
    assert "MambaMixer" in shown
    assert "llama" not in shown
    assert call("models", "--state", "perhaps") == 2


def test_a_warning_is_one_line(folder, acts):
    import subprocess
    import sys

    words = [sys.executable, "-m", "headpursuit", "rank", str(acts), "--concept", str(folder / "words.txt")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    (line,) = [line for line in told.replace("\r", "\n").splitlines() if "random words do as well" in line]
    assert line.strip().startswith("warning: words: random words do as well for L")
    assert "rank_heads" not in told


def test_compare_takes_more_heads_than_a_file_lists(folder, acts, tmp_path, capsys):
    for name in ("a", "b"):
        assert call("rank", acts, "--concept", folder / "words.txt", "--out", tmp_path / f"{name}.json") == 0
    capsys.readouterr()
    told = call_json(capsys, "compare", tmp_path / "a.json", tmp_path / "b.json", "--top", 5)
    assert told["k"] == 5
    assert told["jaccard"] == [[1, 1], [1, 1]]


@pytest.mark.parametrize(("where", "measured"), [("all", True), ("text", True), ("prompt", False), ("generated", False)])
def test_what_an_edit_costs_is_told_where_it_can_be_measured(where, measured, folder, capsys):
    words = ["generate", folder / "model", "--prompt", "two cats", "--head", "L1.H1", "--where", where, "--max-new-tokens", 3]
    told = call_json(capsys, *words)
    assert (told["fluency_cost"] is not None) == measured


def test_a_norm_is_folded_by_every_method_that_can(folder, capsys, tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"text": "two", "target": "cats"}\n{"text": "a red", "target": "cat"}\n')
    words = ["select", folder / "model", "--samples", tmp_path / "samples.jsonl", "--concept", folder / "words.txt"]
    assert call_json(capsys, *words, "--method", "somp", "--fold-norm")["about"]["fold_norm"] is True
    assert call(*words, "--method", "attribution", "--fold-norm") == 1
    assert "takes no --fold-norm" in capsys.readouterr().err
