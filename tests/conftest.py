"""Shared fixtures; jaxtyping shapes in signatures are checked at run time where the arithmetic is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and workers share the cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import tiny as tiny_models


@pytest.fixture(params=tiny_models.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_models.hf_model("llama").save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama():
    return tiny_models.tiny("llama")


@pytest.fixture(scope="session")
def llava():
    return tiny_models.tiny("llava")


collect_ignore = ["exporting/breaking_off.py", "faults/dying.py"]  # scripts for processes of their own
