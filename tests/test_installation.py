"""What `headpursuit doctor` says of an installation that lacks something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

METADATA = """Metadata-Version: 2.4
Name: headpursuit
Version: 0.1.0
Provides-Extra: all
Provides-Extra: nothing
Provides-Extra: old
Provides-Extra: both
Requires-Dist: torch>=2.6
Requires-Dist: numpy>=999
Requires-Dist: no-such-library>=1; extra == 'nothing'
Requires-Dist: pandas>=999; extra == 'old'
Requires-Dist: headpursuit[nothing,old]; extra == 'both'
Requires-Dist: never>=1; sys_platform == 'none' and extra == 'old'
"""
SRC = Path(__file__).parents[1] / "src"


def test_what_is_lacking_is_named_with_the_way_to_get_it(tmp_path):
    made = tmp_path / "headpursuit-0.1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(METADATA)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(SRC)))}
    command = [sys.executable, "-m", "headpursuit", "doctor"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert not found["ok"]
    (numpy,) = found["missing"]
    assert numpy.startswith("numpy (")
    assert numpy.endswith(" is here, >=999 is needed)")
    assert found["extras"]["nothing"] == ["no-such-library (not installed)"]
    assert [one.partition(" ")[0] for one in found["extras"]["both"]] == ["no-such-library", "pandas"]
    assert set(found["extras"]) == {"nothing", "old", "both"}
    assert "lacking: numpy (" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    shown = subprocess.run(command, capture_output=True, text=True, env=env, check=False).stdout
    assert "pip install 'headpursuit[nothing]'" in shown
