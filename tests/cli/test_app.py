"""``headpursuit app``: it says where its page is, gives it out, and ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

import tiny
from command import call


@pytest.mark.slow
def test_the_page_is_given_out_until_a_signal(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(tiny.TEXTS))
    model = tmp_path / "model"
    tiny.hf_model("llama").save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    words = ["app", str(model), "--samples", str(tmp_path / "texts.txt"), "--no-open", "--json"]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True"}
    running = subprocess.Popen(
        [sys.executable, "-m", "headpursuit", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        lines = [running.stdout.readline()]
        while lines[-1].strip() not in ("", "}"):
            lines.append(running.stdout.readline())
        told = json.loads("".join(lines))
        assert told["address"].startswith("http://127.0.0.1:")
        assert told["n"] == len(tiny.TEXTS)
        with urllib.request.urlopen(told["address"], timeout=30) as page:
            assert b"headpursuit" in page.read()
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
        rest, error = running.communicate()
        assert rest == ""
        assert "stopped by SIGINT" in error.splitlines()[-1]
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--capture", "none"], "none is no capture"),
        (["--samples", "none.txt"], "none.txt"),
        (["--host", "256.0.0.1"], "256.0.0.1 is no address to listen at"),
        (["--host", "192.0.2.1", "--port", "7999"], "nothing can listen at 192.0.2.1, port 7999"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("app", "demo", "--no-open", *words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headpursuit: ")]
    assert len(lines) == 1
    assert said in lines[0]
