"""The provenance of an export: the edit and where it came from, in a file for programs and in the model card.

A folder holds both; beside a GGUF file, whose keys all stay, lies the file for programs alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from headpursuit.editing.edit import HeadEdit, read_edit_file, write_edit
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.adapters import CONFIG, WEIGHTS
from headpursuit.exporting.projections import EditedProjection, ExportSource
from headpursuit.files import checked, file_hash, read_json, read_text, write_text
from headpursuit.model.checkpoint_files import checkpoint_files, stored_tensors
from headpursuit.model.gguf_files import part_names
from headpursuit.versions import versions

RECORD = "headpursuit_edit.json"
CARD = "README.md"
_TAG = "headpursuit"
_FRONT = re.compile(r"(---[ \t]*\r?\n)(.*?)(?=^---[ \t]*\r?$)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """What an export says of itself, see :func:`record_path`.

    Attributes:
        edit: the edit that was exported.
        origin: identity of the unedited model.
        folder: where its files lay, a GGUF file by its own path, or None.
        format: ``checkpoint``, ``lora``, ``ia3`` or ``gguf``.
        dtype: of the model in memory, ``auto`` where it was not loaded.
        files: hashes of the files that are no copies of the original's, by name.
    """

    edit: HeadEdit
    origin: Mapping[str, Any]
    folder: str | None
    format: str
    dtype: str
    files: Mapping[str, str]

    def damaged(self, out: Path) -> tuple[str, ...]:
        """Names of those files that are not as they were written."""
        folder = record_path(out).parent
        paths = {name: folder / name for name in self.files}
        return tuple(name for name, path in paths.items() if not path.is_file() or file_hash(path) != self.files[name])


class _Stored(BaseModel):
    """What was done with the edit, as a record holds it."""

    model_config = ConfigDict(extra="allow")
    format: Literal["checkpoint", "lora", "ia3", "gguf"]
    dtype: str
    folder: str | None
    files: dict[Annotated[str, Field(pattern=r"^[^/\\]+$")], str]


def record_path(out: Path) -> Path:
    """Where the record of an export is: in its folder, or beside a GGUF file (its first part, where there are several)."""
    if out.suffix.lower() != ".gguf" or out.is_dir():
        return out / RECORD
    first = part_names(out)[0]
    return first.with_name(f"{first.name}.json")


def write_record(
    path: Path,
    source: ExportSource,
    edit: HeadEdit,
    edited: Sequence[EditedProjection],
    *,
    format: str,
    files: Mapping[str, str],
    earlier: Path,
) -> None:
    """Write an export's record: an edit file like any other, with what was done with it beside it.

    Args:
        path: the file.
        source: the model that was exported.
        edit: the edit.
        edited: what it changes.
        format: of the export.
        files: hashes of the files that are no copies of the original's, by name.
        earlier: the record of an export that the original was; there need not be one.
    """
    done = {
        "format": format,
        "dtype": str(source.model.hf.dtype).removeprefix("torch.") if source.loaded else "auto",
        "folder": None if source.path is None else str(source.path.resolve()),
        "tensors": [one.stored.key for one in edited if one.stored is not None] if format in ("checkpoint", "gguf") else [],
        "modules": [one.layer.projection for one in edited],
        "files": dict(files),
        "versions": versions(),
    }
    before = {"earlier": read_json(earlier)} if earlier.is_file() else {}
    write_edit(path, edit, model=source.identity, export=done, **before)


def own_files(draft: Path, *, format: str) -> dict[str, str]:
    """Hashes of the files in a folder that are no copies of the original's, by name."""
    names = [CARD] if format == "checkpoint" else [CARD, CONFIG, WEIGHTS]
    return {name: file_hash(draft / name) for name in names}


def holds_export(out: Path) -> bool:
    """Whether a record says that there is an export; a folder has its record last, a GGUF file has it first."""
    return record_path(out).is_file()


def is_of(found: Record, source: ExportSource, edit: HeadEdit, *, format: str) -> bool:
    """Whether a record is of this edit of this model in this format."""
    return (found.edit, found.format, {**found.origin, "id": None}) == (edit, format, {**source.identity, "id": None})


def is_same_export(out: Path, source: ExportSource, edit: HeadEdit, *, format: str) -> bool:
    """Whether a folder holds this export already, with all of its files.

    Raises:
        HeadPursuitError: its record cannot be read.
    """
    found = read_record(out)
    same = is_of(found, source, edit, format=format)
    if not same or found.damaged(out) or format != "checkpoint":
        return same and not found.damaged(out)
    keys = sorted(one.key for one in stored_tensors(checkpoint_files(out)))
    return keys == sorted(one.key for one in source.stored)


def read_record(out: str | Path) -> Record:
    """Read what an export says of itself.

    Raises:
        HeadPursuitError: the folder holds no export, or no record lies beside the GGUF file.
    """
    path = record_path(Path(out))
    if not path.is_file():
        raise HeadPursuitError(
            f"{out} holds no export ({path.name} is not there): give a folder or a GGUF file that `headpursuit export "
            "--out` wrote"
        )
    edit, origin = read_edit_file(path)
    done = checked(_Stored, read_json(path).get("export"), what=f"{path} is no record of an export", remedy="export again")
    return Record(edit=edit, origin=origin, folder=done.folder, format=done.format, dtype=done.dtype, files=done.files)


def write_card(draft: Path, source: ExportSource, edit: HeadEdit, *, format: str, about: str = "") -> None:
    """Add the edit to the model card's metadata, and a section about it to its text; make a card where there is none.

    ``about`` is Markdown that stands behind that section.
    """
    path = draft / CARD
    own = read_text(path) if path.is_file() else ""
    wanted = {
        **({} if source.hub_id is None else {"base_model": source.hub_id}),
        **({"library_name": "peft"} if format in ("lora", "ia3") else {}),
    }
    found = _FRONT.match(own)
    if found is None:
        text = f"---\n{_told('', wanted)}---\n{own}"
    else:  # metadata that cannot be read stay as they are
        told = _told(found[2], wanted)
        text = own if told is None else f"{found[1]}{told}{own[found.end(2) :]}"
    section = _section(source, edit, format=format)
    write_text(path, f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n{section}{about and chr(10) + about}")


def _told(front: str, wanted: Mapping[str, str]) -> str | None:
    """A card's metadata with our tag and what is wanted and not yet there, all else as it is; None where it cannot be read."""
    end = "\r\n" if "\r\n" in front else "\n"
    try:
        node = yaml.compose(front, Loader=yaml.SafeLoader)
        before = yaml.safe_load(front) or {}
        values = {} if node is None else {key.value: value for key, value in node.value}
        tags = values.get("tags")
        if tags is None:
            told = f"{front}tags:{end}- {_TAG}{end}"
        elif _TAG in (before["tags"] or []):
            told = front
        else:
            told = _with_tag(front, tags, end)
        told += "".join(f"{key}: {value}{end}" for key, value in wanted.items() if key not in before)
        after = yaml.safe_load(told)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return told if {**wanted, **before, "tags": after["tags"]} == after and _TAG in after["tags"] else None


def _with_tag(front: str, tags: Any, end: str) -> str:
    """The same text with one more item in a list, whichever way it is written."""
    first, last = tags.start_mark.index, tags.end_mark.index
    if isinstance(tags, yaml.ScalarNode):
        own = front[first:last]
        return f"{front[:first]}{'' if own else ' '}[{own}{', ' if own else ''}{_TAG}]{front[last:]}"
    if tags.flow_style:
        return f"{front[: last - 1]}{', ' if tags.value else ''}{_TAG}{front[last - 1 :]}"
    line_end = front.find("\n", tags.value[-1].end_mark.index) + 1 or len(front)
    return f"{front[:line_end]}{' ' * tags.start_mark.column}- {_TAG}{end}{front[line_end:]}"


def _section(source: ExportSource, edit: HeadEdit, *, format: str) -> str:
    name = source.hub_id or Path(str(source.identity["id"])).name
    revision = source.identity["revision"]
    made = {
        "checkpoint": "This checkpoint has the edit in its weights: the heads' columns of their layers' output projections are "
        "multiplied by the scales. Every other tensor is byte for byte the original's.",
        "gguf": "This GGUF file has the edit in its tensors; every other byte is the original's.",
        "lora": "This is a LoRA that is exactly the edit, for the unchanged model.",
        "ia3": "This is an IA3 adapter that is exactly the edit, for the unchanged model.",
    }[format]
    holder = "The JSON file beside it" if format == "gguf" else f"`{RECORD}`"
    rows = "\n".join(f"| {factor.head} | {factor.scale:g} |" for factor in edit.factors)
    return (
        "## Edited attention heads\n\n"
        f"Attention heads of {name}{f' (revision {revision})' if revision else ''} were scaled with headpursuit "
        f"{versions()['headpursuit']}. {made}\n\n"
        f"| head | scale |\n|---|---|\n{rows}\n\n"
        f"{holder} holds the edit; `headpursuit verify` compares this with the edited original.\n"
    )
