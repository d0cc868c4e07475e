"""A folder that appears complete or not at all, and what goes into it unchanged."""

import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError
from tqdm.auto import tqdm

from headpursuit.errors import HeadPursuitError
from headpursuit.model.checkpoint_files import OTHER_FORMS, PICKLES


def require_new(out: Path, *, source: Path | None) -> None:
    """Check that a folder may be made.

    Args:
        out: the folder.
        source: a folder that must stay as it is, or None.

    Raises:
        HeadPursuitError: ``out`` is not empty, or is, holds or lies in the source.
    """
    target, kept = out.resolve(), None if source is None else source.resolve()
    if kept is not None and (target.is_relative_to(kept) or kept.is_relative_to(target)):
        raise HeadPursuitError(f"{out} is, holds or lies in the model's own folder {source}: choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HeadPursuitError(f"{out} is not empty: choose a new folder, or delete this one")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A draft beside ``out`` that takes its name once the block is left, and is deleted if it is left by an error.

    Whatever ends the process in between leaves no ``out``; the draft (``.NAME.part``) is cleared away by the next export.

    Raises:
        HeadPursuitError: it cannot be written.
    """
    target = out.resolve()
    draft = target.with_name(f".{target.name}.part")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir()
        yield draft
        draft.replace(target)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        fault = error.__cause__ if isinstance(error, HeadPursuitError) else error
        if not isinstance(fault, OSError | SafetensorError):
            raise
        raise HeadPursuitError(
            f"{out} could not be written ({getattr(fault, 'strerror', None) or fault}): nothing was kept of it; make room, or "
            "choose another disk"
        ) from error


def files_beside(source: Path, weights: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Other files of a checkpoint's folder, as paths relative to it.

    Args:
        source: the folder.
        weights: the files that its model is loaded from.

    Returns:
        The files that go along, and those that do not: weights in other forms, which hold no edit, and pickles, which run code
        when they are opened. Hidden ones are neither.

    Raises:
        HeadPursuitError: a file is a link to one outside of the folder.
    """
    along: list[Path] = []
    left_out: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        require_own(source, [Path(folder) / name for name in (*folders, *names) if not name.startswith(".")])
        for name in sorted(names):
            path = Path(folder) / name
            if path in weights or name.startswith("."):
                continue
            unwanted = any(fnmatch(name, form) for form in ("*.safetensors", *OTHER_FORMS, *PICKLES)) or _is_pickle(path)
            (left_out if unwanted else along).append(path.relative_to(source))
    return along, left_out


def require_own(source: Path, paths: Iterable[Path]) -> None:
    """Check that what would be copied is the checkpoint's own: it lies in its folder, or among the blobs of the Hub's cache.

    Raises:
        HeadPursuitError: naming the first link that leads elsewhere, or what is neither a file nor a folder.
    """
    root = source.resolve()
    allowed = [root, *([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])]
    for path in paths:
        target = path.resolve()
        if target.exists() and not (target.is_file() or target.is_dir()):
            # Reading a pipe or a device may never end.
            raise HeadPursuitError(f"{path} is no plain file: take it out of the checkpoint's folder")
        if not any(target.is_relative_to(folder) for folder in allowed):
            raise HeadPursuitError(
                f"{path} is a link to {target}, outside of the checkpoint's folder: put the file itself there, if it belongs "
                "to the checkpoint"
            )


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do, those included that torch packs into a zip file."""
    try:
        with path.open("rb") as file:
            if file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
                return True
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as packed:
            return any(name.endswith(".pkl") for name in packed.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def fill(draft: Path, source: Path, files: Sequence[Path], *, linked: Sequence[Path] = (), progress: bool) -> None:
    """Put files of a source into a draft.

    Args:
        draft: the folder that is made.
        source: the folder that they come from.
        files: relative paths of those that are copied.
        linked: relative paths of those that share their content on disk with the source where the file system allows it.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: there is too little room.
    """
    sizes = {path: (source / path).stat().st_size for path in (*files, *linked)}
    needed, free = sum(sizes[path] for path in files), shutil.disk_usage(draft).free
    if needed > free:
        raise HeadPursuitError(
            f"{draft.parent} has {free / 1e9:.1f} GB left, the export needs {needed / 1e9:.1f} GB: make room, choose another "
            "disk, or link what is unchanged (--link)"
        )
    bar = tqdm(total=sum(sizes.values()), desc="export", unit="B", unit_scale=True, disable=not progress, leave=False)
    with bar:
        for path, size in sizes.items():
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path not in linked or not _link((source / path).resolve(), target):
                shutil.copyfile(source / path, target)
            bar.update(size)


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False  # another file system, or one without links
    return True
