"""Breaks off exports of the model in one folder, and of one in a GGUF file, and prints what was seen as JSON.

They go into another folder, in forked children. Each child is killed (SIGKILL) at another step of its work with files, until
one gets through; then the size of files is limited, so that a write fails half-way as it does on a full disk.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import headpursuit as hp
from headpursuit.cli import main

FOLDER, GGUF, ROOT = map(Path, sys.argv[1:])
MODELS = {"checkpoint": FOLDER, "lora": FOLDER, "gguf": GGUF}
OUTS = {"checkpoint": "checkpoint", "lora": "lora", "gguf": "edited.gguf"}
STEPS = ("open", "os.rename", "os.mkdir", "os.chmod", "shutil.copyfile")
LIMITS = {"checkpoint": 40_000, "lora": 2_000, "gguf": 40_000}


def die_at(step: int):
    left = [step]

    def hook(event, args):
        if event in STEPS and any(str(ROOT) in str(arg) for arg in args):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def kill_everywhere(format: str) -> int:
    model, edit, out = hp.load(MODELS[format]), hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1), ROOT / OUTS[format]
    for step in range(1, 1000):
        child = os.fork()
        if child == 0:
            sys.addaudithook(die_at(step))
            hp.export(model, edit, out, format=format, progress=False)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            return step - 1
        assert not out.exists(), f"killed at step {step}, and something is there"
    raise AssertionError("no export got through")


def fill_disk(format: str) -> dict[str, object]:
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITS[format], resource.RLIM_INFINITY))
            out = str(ROOT / f"full-{OUTS[format]}")
            sys.argv = ["headpursuit", "export", str(MODELS[format]), "--head", "L0.H1", "--out", out, "--format", format]
            try:
                main()
            except SystemExit as stop:
                sys.stderr.flush()
                os._exit(stop.code)
            os._exit(0)
        code = os.WEXITSTATUS(os.waitpid(child, 0)[1])
        errors.seek(0)
        said = [line for line in errors.read().replace("\r", "\n").splitlines() if line and "%|" not in line]
    return {"code": code, "said": [line for line in said if "headpursuit" in line or "Error" in line]}


print(
    json.dumps(
        {
            "killed": {format: kill_everywhere(format) for format in MODELS},
            "full": {format: fill_disk(format) for format in MODELS},
        }
    )
)
