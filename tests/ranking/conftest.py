"""A small capture that rankings are made of."""

from __future__ import annotations

import pytest

import headpursuit as hp
import tiny


@pytest.fixture(scope="session")
def acts():
    texts = [f"{text} {word}" for text in tiny.TEXTS for word in ("red", "blue", "cats", "tea", "May")]
    return hp.capture(tiny.tiny("llama"), texts, progress=False)
