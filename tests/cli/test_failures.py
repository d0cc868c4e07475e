"""What becomes of bugs, signals and terminals that lack letters: one line, and an exit code that says which."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from command import call
from headpursuit.cli.failures import Stopped, without_secrets

SECRET = "sk-never-to-be-shown"


@pytest.fixture
def breaks(monkeypatch, tmp_path):
    """Make the command ``concepts`` end with an error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def by(error):
        def fail(_):
            raise error

        monkeypatch.setattr("headpursuit.concepts.as_concept", fail)
        return call("concepts", "colours")

    return by


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError("deep"), OverflowError("big"), UnicodeEncodeError("a", "b", 0, 1, "c")]
)
def test_a_bug_is_one_line_that_names_its_report(breaks, capsys, tmp_path, monkeypatch, error):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    error.add_note(f"{SECRET} https://me:hidden@host/")
    assert breaks(error) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"headpursuit: unexpected error ({type(error).__name__}: ")
    (report,) = tmp_path.iterdir()
    assert line.endswith(str(report))
    told = report.read_text()
    assert "Traceback" in told
    assert "headpursuit concepts colours" in told
    assert "[key] https://[password]@host/" in told
    assert SECRET not in told
    assert report.stat().st_mode & 0o077 == 0


def test_a_report_that_cannot_be_written(breaks, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    monkeypatch.setattr("headpursuit.concepts.as_concept", None)
    assert call("concepts", "colours") == 1
    assert capsys.readouterr().err.rstrip().endswith("no report of it could be written, --debug shows it")


@pytest.mark.parametrize("words", [["--debug", "concepts", "zebras"], ["concepts", "zebras", "--debug"]])
def test_debug_shows_the_traceback(capsys, words):
    assert call(*words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("headpursuit: no built-in concept 'zebras'")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes")]
)
def test_too_little_memory_is_no_bug(breaks, capsys, error):
    assert breaks(error) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("headpursuit: out of memory")
    assert "--batch-size" in line


def test_a_message_is_one_line_whatever_stands_in_it(breaks, capsys):
    assert breaks(ValueError("a\nb\r\x1b[2Jc" + "x" * 5000)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a b  [2Jc" in line
    assert len(line) < 1100


def test_keys_and_passwords_are_taken_out_of_texts(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", f"{SECRET}\r\n")
    text = f"{SECRET} given-key given-too http://u:p@h"
    words = ["keywords", "--api-key", "given-key", "--api-key=given-too"]
    assert without_secrets(text, words) == "[key] [key] [key] http://[password]@h"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_is_one_line_with_the_command_that_goes_on(monkeypatch, capsys, name, code):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr("headpursuit.concepts.as_concept", lambda _: signal.raise_signal(signal.Signals[name]))
    assert call("concepts", "two words") == code
    assert capsys.readouterr().err == f"headpursuit: stopped by {name}; to start again: headpursuit concepts 'two words'\n"
    monkeypatch.setattr("headpursuit.model.samples.as_samples", lambda *_, **__: signal.raise_signal(signal.Signals[name]))
    told = ("--kind", "toxic", "--model", "m", "--endpoint", "http://127.0.0.1:9", "--api-key", SECRET)
    assert call("keywords", "a.txt", *told, "--out", "out.txt") == code
    (line,) = capsys.readouterr().err.splitlines()
    assert "to go on from what is kept: headpursuit keywords a.txt " in line
    assert SECRET not in line
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_no_handler_of_errors_takes_a_signal_for_one():
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_signal_in_a_real_process(tmp_path, number):
    """A capture that is stopped while it goes on."""
    (tmp_path / "samples.txt").write_text("a text\n" * 5000)
    command = [sys.executable, "-m", "headpursuit", "capture", "demo", "--samples", tmp_path / "samples.txt"]
    command += ["--batch-size", "1", "--out", tmp_path / "acts"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "acts" / "index.json").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == ""
    # tqdm's bar ends with a carriage return.
    lines = [line for line in re.split(r"[\r\n]", err) if line.startswith("headpursuit: ")]
    assert len(lines) == 1
    assert f"to go on from what is kept: headpursuit capture demo --samples {tmp_path / 'samples.txt'}" in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["models"], ["concepts", "--json"], ["generate", "demo", "--head", "L1.H1", "--prompt", "α → 😀"]]
)
def test_a_terminal_that_lacks_letters(words):
    shown = subprocess.run(
        [sys.executable, "-m", "headpursuit", *words], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout.decode("cp1252")
    if "--json" in words:
        assert json.loads(text)["concepts"]
    if "generate" in words:
        assert "\\U0001f600" in text


def test_json_is_whole_on_a_terminal_that_lacks_letters(tmp_path, monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", written)
    (tmp_path / "words.txt").write_text("α\n😀\nred\n", encoding="utf-8")
    assert call("concepts", tmp_path / "words.txt", "--json") == 0
    written.flush()
    assert json.loads(written.buffer.getvalue().decode("cp1252"))["words"] == ["α", "😀", "red"]
