"""Uploads by the real client, to a Hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headpursuit.errors import HeadPursuitError
from headpursuit.steering.push import check_push
from steering.hub import hub

HERE = Path(__file__).parent
PUSH = (
    "import sys; from headpursuit.errors import HeadPursuitError; from headpursuit.steering.push import check_push, upload\n"
    "from pathlib import Path\n"
    "try:\n    check_push(sys.argv[1]); print(upload(Path(sys.argv[2]), sys.argv[1], public=sys.argv[3] == 'public'))\n"
    "except HeadPursuitError as error:\n    sys.exit(str(error))"
)


def pushed(address: str, name: str, folder: Path, kind: str = "private") -> subprocess.CompletedProcess[str]:
    """In a process of its own, since the client reads its address and whether it may ask anybody when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_any", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", PUSH, name, str(folder), kind]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("---\ntags:\n- headpursuit\n---\n# Edited\n")
    (tmp_path / "headpursuit_edit.json").write_text(json.dumps({"edit": 1}))
    (tmp_path / ".lock").write_text("")
    return tmp_path


@pytest.mark.parametrize("kind", ["private", "public"])
def test_a_folder_becomes_a_repository(folder, kind):
    with hub() as (address, held):
        done = pushed(address, "someone/edited", folder, kind)
    assert done.stdout.strip() == f"{address}/someone/edited", done.stderr
    assert held.private == {"someone/edited": kind == "private"}
    uploaded = held.files["someone/edited"]
    assert uploaded["README.md"] == (folder / "README.md").read_bytes()
    assert {"README.md", "headpursuit_edit.json"} <= set(uploaded)
    assert ".lock" not in uploaded


def test_whoever_is_not_known_is_told_in_one_line(folder):
    with hub(knows=False) as (address, held):
        done = pushed(address, "someone/edited", folder)
    assert done.returncode == 1
    assert done.stderr.startswith("push='someone/edited': the Hub does not take it (")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not held.private


@pytest.mark.parametrize("name", ["edited", "a/b/c", "/b", "", 7])
def test_what_is_no_repository_s_name_is_refused(name):
    with pytest.raises(HeadPursuitError, match="give the name of a repository on the Hub"):
        check_push(name)
