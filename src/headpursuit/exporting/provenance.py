"""The provenance of an export: the edit and where it came from, in a file for programs and in the model card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from headpursuit.editing.edit import HeadEdit, read_edit_file
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.projections import EditedProjection, ExportSource
from headpursuit.files import read_json, read_text, write_json, write_text
from headpursuit.versions import versions

RECORD = "headpursuit_edit.json"
CARD = "README.md"


@dataclass(frozen=True)
class Record:
    """The content of :data:`RECORD`.

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


def write_record(draft: Path, source: ExportSource, edit: HeadEdit, edited: Sequence[EditedProjection], *, format: str) -> None:
    """Write :data:`RECORD`: an edit file like any other, with what was done with it beside it."""
    path = draft / RECORD
    earlier = read_json(path) if path.is_file() else None
    content = {
        "model": dict(source.identity),
        **edit.to_dict(),
        "export": {
            "format": format,
            "dtype": str(source.model.hf.dtype).removeprefix("torch.") if source.loaded else "auto",
            "folder": None if source.folder is None else str(source.folder.resolve()),
            "tensors": [one.stored.key for one in edited if one.stored is not None] if format == "checkpoint" else [],
            "modules": [one.layer.projection for one in edited],
            "versions": versions(),
        },
        **({} if earlier is None else {"earlier": earlier}),
    }
    write_json(path, content)


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
        stored = read_json(path)["export"]
        return Record(edit=edit, origin=origin, folder=stored["folder"], format=stored["format"], dtype=stored["dtype"])
    except (KeyError, TypeError) as error:
        raise HeadPursuitError(f"{path} is no record of an export ({error}): export again") from error


def write_card(draft: Path, source: ExportSource, edit: HeadEdit, *, format: str) -> None:
    """Add the edit to the model card's metadata, and a section about it to its text; make a card where there is none."""
    path = draft / CARD
    own = read_text(path) if path.is_file() else ""
    section = _section(source, edit, format=format)
    try:
        card = ModelCard(own if own.startswith("---") else f"---\n{{}}\n---\n{own}", ignore_metadata_errors=True)
    except (ValueError, YAMLError):  # metadata that cannot be read stay as they are
        write_text(path, f"{own.rstrip()}\n\n{section}")
        return
    metadata: Any = card.data
    metadata.tags = [*dict.fromkeys([*(metadata.tags or []), "headpursuit"])]
    if source.hub_id is not None:
        metadata.base_model = source.hub_id
    if format != "checkpoint":
        metadata.library_name = "peft"
    card.text = f"{card.text.rstrip()}\n\n{section}".lstrip("\n")
    write_text(path, str(card))


def _section(source: ExportSource, edit: HeadEdit, *, format: str) -> str:
    name = source.hub_id or Path(str(source.identity["id"])).name
    revision = source.identity["revision"]
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
