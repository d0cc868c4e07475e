"""Optional libraries: imported where they are installed, else named with the extra that installs them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from headpursuit.errors import MissingExtraError
from headpursuit.optional import optional_import


def test_a_submodule_is_imported_itself():
    assert optional_import("xml.dom.minidom", extra="data", purpose="this test").parseString("<a/>").documentElement


@pytest.mark.parametrize(
    ("module", "package", "named"),
    [("absent", None, "absent"), ("absent.part", None, "absent"), ("absent.part", "absent-py", "absent-py")],
)
def test_what_is_missing_is_named_as_one_installs_it(monkeypatch, module, package, named):
    monkeypatch.setitem(sys.modules, "absent", None)
    with pytest.raises(MissingExtraError) as caught:
        optional_import(module, package=package, extra="data", purpose="this test")
    assert str(caught.value) == f"this test needs {named}, which is not installed: pip install 'headpursuit[data]'"


def test_other_mistakes_of_a_library_are_not_hidden(monkeypatch, tmp_path):
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('its own mistake')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="its own mistake"):
        optional_import("broken_library", extra="data", purpose="this test")


WITHOUT = """
import contextlib, importlib.machinery, io, json, sys

class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, *given):
        missing = name.partition(".")[0] in ("ray", "s3fs", "aiobotocore", "accelerate", "upath")
        return None if missing else super().find_spec(name, *given)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without
from headpursuit.cli import main
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        sys.argv = ["headpursuit", *words]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, [line for line in said.getvalue().splitlines() if line.startswith("headpursuit: ")]]))
"""


def test_what_workers_stores_and_devices_need_is_named_and_the_rest_does_without(tmp_path):
    for number in range(2):
        (tmp_path / f"part-{number}.txt").write_text("a red circle\ntwo blue squares\na green triangle\n")
    acts, given = str(tmp_path / "acts"), ["--samples", str(tmp_path / "part-*.txt"), "--out", str(tmp_path / "acts")]
    tried = {
        "ray": ["capture", "demo", *given, "--engine", "ray"],
        "universal-pathlib": ["capture", "demo", *given[:-1], "s3://bucket/acts"],
        "accelerate": ["capture", "demo", *given, "--device", "auto"],
        "": ["capture", "demo", *given, "--keep-rows", "3"],
        "nothing": ["rank", acts, "--concept", "colours"],
        "nothing else": ["describe", acts, "--head", "L0.H1"],
        "more": ["rank", "s3://bucket/acts", "--concept", "colours"],
    }
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT), json.dumps(list(tried.values()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = dict(zip(tried, map(json.loads, done.stdout.splitlines()), strict=True))
    assert found["ray"] == [1, ["headpursuit: engine='ray' needs ray, which is not installed: pip install 'headpursuit[ray]'"]]
    for name, extra in (("universal-pathlib", "cloud"), ("accelerate", "devices")):
        code, (line,) = found[name]
        assert code == 1
        assert line.endswith(f"needs {name}, which is not installed: pip install 'headpursuit[{extra}]'")
    assert found["more"][0] == 1
    assert "headpursuit[cloud]" in found["more"][1][0]
    for name in ("", "nothing", "nothing else"):
        assert found[name] == [0, []]


def test_a_store_without_its_own_library_is_named_with_the_extra(monkeypatch):
    import headpursuit as hp

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(hp.HeadPursuitError, match=r"^s3://bucket/a\.jsonl: .*pip install 'headpursuit\[cloud\]' brings s3fs$"):
        hp.as_samples("s3://bucket/a.jsonl")
