"""A GGUF file as llama.cpp runs it: a second opinion on an export, where its Python package is installed."""

from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.model.gguf_files import gguf_parts


def llama_cpp() -> Any | None:
    """The package, or None where it is not installed; it is no extra, since it takes a compiler many minutes."""
    return import_module("llama_cpp") if find_spec("llama_cpp") else None


def opened_by_llama_cpp(path: Path, *, context: int) -> Any:
    """A model in llama.cpp, on the CPU with as many threads as torch has, which gives the logits behind every token.

    Raises:
        HeadPursuitError: llama.cpp does not open it.
    """
    package: Any = llama_cpp()
    first = gguf_parts(path)[0].path  # llama.cpp finds the other parts from the first one alone
    # By itself it takes every core, and its threads wait for each other by spinning.
    threads = {"n_threads": torch.get_num_threads(), "n_threads_batch": torch.get_num_threads()}
    options = {"n_ctx": context, "n_batch": context, "logits_all": True, "n_gpu_layers": 0, "verbose": False, **threads}
    try:
        return package.Llama(str(first), **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise HeadPursuitError(f"{path} could not be opened by llama.cpp ({error})") from error


def llama_logits(path: Path, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Logits behind every token of every row, each ``(t, v)``.

    Raises:
        HeadPursuitError: llama.cpp does not open the file.
    """
    found = []
    with closing(opened_by_llama_cpp(path, context=max(map(len, rows)))) as model:
        for row in rows:
            model.reset()
            model.eval(list(row))
            found.append(torch.from_numpy(model.scores[: len(row)].copy()))
    return found
