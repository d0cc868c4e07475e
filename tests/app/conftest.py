"""The demo's playground, which many tests share."""

from __future__ import annotations

import pytest

from headpursuit.app.playground import open_playground


@pytest.fixture(scope="session")
def playground():
    return open_playground("demo", device="cpu", progress=False)
