"""A GGUF file where a model's name is expected: which file is meant, and how transformers is given it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.files import expanded
from headpursuit.model.gguf_files import part_names, require_model
from headpursuit.model.gguf_joining import join_parts
from headpursuit.optional import optional_import


def find_gguf(model: str | Path, *, revision: str | None = None) -> Path | None:
    """The GGUF file that a model's name means, or None where it means something else.

    Args:
        model: a file, or ``OWNER/NAME/FILE.gguf`` for one of the Hub, which is downloaded if need be, all its parts included.
        revision: commit, branch or tag on the Hub.

    Raises:
        HeadPursuitError: there is no such file.
    """
    path, name = expanded(model), str(model)
    if name != "demo" and path.is_file():
        return path
    if not name.lower().endswith(".gguf") or path.is_dir():
        return None
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not file or owner in ("", ".", "..", "~") or Path(owner).exists():
        raise HeadPursuitError(f"{model} could not be opened as a model (there is no such file): give a .gguf file")
    return _downloaded(f"{owner}/{repository}", file, revision)


def _downloaded(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        found = [Path(hf_hub_download(repository, str(one), revision=revision)) for one in part_names(Path(file))]
    except Exception as error:  # a name that the Hub does not take, no connection, a file that is not there
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HeadPursuitError(
            f"{repository}/{file} could not be opened as a model (there is no such file here, and none from the Hub: "
            f"{reason}): give a .gguf file"
        ) from error
    return found[0]


@contextmanager
def given_to_transformers(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A folder that holds a GGUF file alone, whole, and the option that names it.

    Alone, since transformers prefers a tokenizer's files beside it to the tokenizer that it holds; whole, since transformers
    reads no parts: they are joined in a temporary file, which takes their room for as long as the block lasts.

    Raises:
        HeadPursuitError: the file holds no language model, or is not whole; see :func:`gguf_files.require_model`.
        MissingExtraError: a library that transformers reads such files with is not installed.
    """
    parts = require_model(path)
    optional_import("accelerate", extra="gguf", purpose="a GGUF file")
    with tempfile.TemporaryDirectory(prefix="headpursuit-") as made:
        # A name that no other file has: transformers looks for it in the working folder first.
        file = Path(made) / f"{Path(made).name}.gguf"
        if len(parts) == 1:
            file.symlink_to(path.resolve())
        else:
            join_parts(parts, file)
        yield made, {"gguf_file": file.name}
