"""What an exported folder says of itself: the edit and where it came from, in a file for programs and in the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from headpursuit.editing.edit import HeadEdit, read_edit_file
from headpursuit.errors import HeadPursuitError
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.exporting.projections import Subject, Touched

RECORD = "headpursuit_edit.json"
CARD = "README.md"


@dataclass(frozen=True)
class Record:
    """What :data:`RECORD` holds.

    Attributes:
        edit: the edit that was exported.
        origin: identity of the unedited model.
        folder: where its files lay, or None.
        format: ``checkpoint``, ``lora`` or ``ia3``.
        dtype: of the model in memory, ``auto`` where it was not loaded.
    """

    edit: HeadEdit
    origin: Mapping[str, Any]
    folder: str | None
    format: str
    dtype: str


def write_record(draft: Path, subject: Subject, edit: HeadEdit, touched: Sequence[Touched], *, format: str) -> None:
    """Write :data:`RECORD`: an edit file like any other, with what was done with it beside it."""
    path = draft / RECORD
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    content = {
        "model": dict(subject.identity),
        **edit.to_dict(),
        "export": {
            "format": format,
            "dtype": str(subject.model.hf.dtype).removeprefix("torch.") if subject.loaded else "auto",
            "folder": None if subject.folder is None else str(subject.folder.resolve()),
            "tensors": [one.stored.key for one in touched if one.stored is not None] if format == "checkpoint" else [],
            "modules": [one.layer.projection for one in touched],
            "versions": versions(),
        },
        **({} if earlier is None else {"earlier": earlier}),
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(out: str | Path) -> Record:
    """Read what an export says of itself.

    Raises:
        HeadPursuitError: the folder holds no export.
    """
    path = Path(out) / RECORD
    if not path.is_file():
        raise HeadPursuitError(f"{out} holds no export: give a folder that `headpursuit export --out` wrote")
    edit, origin = read_edit_file(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["export"]
        return Record(edit=edit, origin=origin, folder=stored["folder"], format=stored["format"], dtype=stored["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise HeadPursuitError(f"{path} is no record of an export ({error}): export again") from error


def write_card(draft: Path, subject: Subject, edit: HeadEdit, *, format: str) -> None:
    """Add the edit to the model card's metadata, and a section about it to its text; make a card where there is none."""
    path = draft / CARD
    own = path.read_text(encoding="utf-8") if path.is_file() else ""
    section = _section(subject, edit, format=format)
    try:
        card = ModelCard(own if own.startswith("---") else f"---\n{{}}\n---\n{own}", ignore_metadata_errors=True)
    except (ValueError, YAMLError):  # metadata that nobody can read stay as they are
        path.write_text(f"{own.rstrip()}\n\n{section}", encoding="utf-8")
        return
    metadata: Any = card.data
    metadata.tags = [*dict.fromkeys([*(metadata.tags or []), "headpursuit"])]
    if subject.hub_id is not None:
        metadata.base_model = subject.hub_id
    if format != "checkpoint":
        metadata.library_name = "peft"
    card.text = f"{card.text.rstrip()}\n\n{section}".lstrip("\n")
    path.write_text(str(card), encoding="utf-8")


def _section(subject: Subject, edit: HeadEdit, *, format: str) -> str:
    name = subject.hub_id or Path(str(subject.identity["id"])).name
    revision = subject.identity["revision"]
    made = {
        "checkpoint": "This checkpoint has the edit in its weights: the heads' columns of their layers' output projections are "
        "multiplied by the scales. Every other tensor is byte for byte the original's.",
        "lora": "This is a LoRA that is exactly the edit, for the unchanged model.",
        "ia3": "This is an IA3 adapter that is exactly the edit, for the unchanged model.",
    }[format]
    rows = "\n".join(f"| {factor.head} | {factor.scale:g} |" for factor in edit.factors)
    return (
        "## Edited attention heads\n\n"
        f"Attention heads of {name}{f' (revision {revision})' if revision else ''} were scaled with headpursuit "
        f"{versions()['headpursuit']}. {made}\n\n"
        f"| head | scale |\n|---|---|\n{rows}\n\n"
        f"`{RECORD}` holds the edit; `headpursuit verify` compares this folder with the edited original.\n"
    )
