"""A search with workers of Ray takes the way of one without, and runs no cell more."""

from __future__ import annotations

import pytest

import headpursuit as hp

ray = pytest.importorskip("ray")

OPTIONS = {
    "trials": 24,
    "methods": ("somp", "attribution"),
    "k": 3,
    "draws": 2,
    "fixed_ks": (1, 2),
    "limit": 8,
    "progress": False,
}


def test_workers_find_the_same_edit_by_the_same_trials(tmp_path):
    model = hp.load("demo", device="cpu")
    alone = hp.tune(model, None, "colours", out=tmp_path / "alone", **OPTIONS)
    found = hp.tune(model, None, "colours", out=tmp_path / "two", engine="ray", workers=2, **OPTIONS)
    assert found == alone
    assert found.computed == alone.computed
    names = [{path.name for path in (tmp_path / folder / "cells").iterdir()} for folder in ("alone", "two")]
    assert names[0] == names[1]
