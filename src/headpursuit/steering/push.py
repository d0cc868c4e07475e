"""Upload of an export to the Hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token

from headpursuit.errors import HeadPursuitError


def check_push(name: str) -> None:
    """Check that something can be uploaded under a name, before any work is done for it.

    Raises:
        HeadPursuitError: the name is no repository's, nobody is logged in, or the Hub does not answer.
    """
    if not isinstance(name, str) or len([part for part in name.split("/") if part]) != 2 or name.count("/") != 1:
        raise HeadPursuitError(f"push={name!r}: give the name of a repository on the Hub, such as you/model-without-colours")
    if not get_token():
        raise HeadPursuitError(f"push={name!r}: nobody is logged in to the Hub: run `hf auth login`, or set HF_TOKEN")
    _asked(name, lambda: HfApi().whoami())


def upload(folder: Path, name: str, *, public: bool = False, message: str = "Upload an edit made with headpursuit") -> str:
    """Upload a folder as a repository of the Hub, which is made if it is not there.

    Args:
        folder: the folder; hidden files and what marks it as held by a process stay here.
        name: the repository, ``owner/name``.
        public: make a new repository public; an old one stays as it is.
        message: what the commit says.

    Returns:
        The repository's address.

    Raises:
        HeadPursuitError: the Hub refuses, or does not answer.
    """

    def done() -> str:
        api = HfApi()
        made = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, commit_message=message, ignore_patterns=[".*", "*.lock"])
        return str(made)

    return str(_asked(name, done))


def _asked(name: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # its own kinds, the network's, and those of whichever client it uses
        reason = " ".join(str(error).split())
        raise HeadPursuitError(
            f"push={name!r}: the Hub does not take it ({reason:.200}); what was written here stays"
        ) from error
