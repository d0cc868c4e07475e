"""Names that examples in docstrings may use without making them: the demo model and a small capture of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def _demo() -> dict[str, Any]:
    import headpursuit as hp
    from headpursuit.demo import demo_samples

    model = hp.load("demo")
    samples = [
        hp.Sample(text=one.text, image=one.image, target=one.target) for one in demo_samples("caption", "selection", limit=24)
    ]
    return {"hp": hp, "model": model, "samples": samples, "acts": hp.capture(model, samples, positions="last", progress=False)}


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        doctest_namespace.update(request.getfixturevalue("_demo"), tmp_path=request.getfixturevalue("tmp_path"))
