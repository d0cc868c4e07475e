"""Optional libraries: imported where they are installed, else named with the extra that installs them."""

from __future__ import annotations

import sys

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
