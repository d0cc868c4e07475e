"""Files beyond this machine: paths with a protocol (``s3://``, ``gs://``, ``hf://``, ``https://``), through fsspec.

Stores have no renames and no locks. What is written there is written beside it on this machine first, and sent as soon as it is
whole; a file that another run changed meanwhile is not written over. What is read of captures stays in a cache of this machine.
"""

import atexit
import fnmatch
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from headpursuit.errors import HeadPursuitError
from headpursuit.optional import optional_import

# `Path` makes one slash of two.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])", re.IGNORECASE)
_MAGIC = re.compile(r"[*?\[]")
# Waits between tries, in seconds: a store that restarts is there again by then.
_WAITS = (1.0, 2.0, 4.0, 8.0)
# What another try does not help with.
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, ValueError, TypeError, ImportError)

_T = TypeVar("_T")
_staged: dict[Path, "_Stage"] = {}
_mirrored: dict[Path, "_Stage"] = {}


def address(path: str | Path) -> str | None:
    """The address in a store that a path is, with both of its slashes; None for a path on this machine.

    >>> address(Path("s3://bucket/acts")), address("acts")
    ('s3://bucket/acts', None)
    """
    text = str(path)
    found = _ADDRESS.match(text)
    if found is None:
        return None
    if found[1].lower() in ("file", "local"):
        raise HeadPursuitError(f"{text}: give a path of this machine without {found[1]}://")
    return f"{found[1].lower()}://{text[found.end() :]}"


def named(path: str | Path) -> PurePosixPath:
    """What a file is called, an address of the web without what is asked of it.

    >>> named("https://host/file.json?download=true").suffix
    '.json'
    """
    where = address(path) or ""
    return PurePosixPath(urlsplit(where).path if where.startswith("http") else str(path))


def on_this_machine(path: str | Path) -> None:
    """Refuse an address where only a folder or file of this machine can be written.

    Raises:
        HeadPursuitError: it is one.
    """
    if where := address(path):
        raise HeadPursuitError(f"{where}: captures and evaluations alone are written to a store; give a folder on this machine")


def _opened(where: str) -> tuple[Any, str]:
    """What reaches a store, and how an address in it is called there."""
    fsspec = optional_import("fsspec", extra="cloud", purpose=f"reaching {where}")
    with _reaching(where):
        if not _has_colons(where):
            fs, root = fsspec.core.url_to_fs(where)
            return fs, root
        kind = fsspec.get_filesystem_class(where.partition("://")[0])
        return kind(**kind._get_kwargs_from_urls(where)), kind._strip_protocol(where)


def _has_colons(where: str) -> bool:
    """Whether there is a name with two colons in an address, which libraries take for one address inside another."""
    _, found, behind = where.partition("::")
    return bool(found) and "://" not in behind


def reachable(path: str | Path) -> Path:
    """A path whose methods reach what lies there, in a store or on this machine.

    Raises:
        HeadPursuitError: there is no such store.
        MissingExtraError: what reaches stores is not installed.
    """
    where = address(path)
    if where is None:
        return Path(path)
    upath = optional_import("upath", package="universal-pathlib", extra="cloud", purpose=f"reaching {where}")
    with _reaching(where):
        if _has_colons(where):
            protocol, _, rest = where.partition("://")
            first, _, behind = rest.partition("/")
            found: Path = upath.UPath(f"{protocol}://{first}").joinpath(behind)
        else:
            found = upath.UPath(where)
        getattr(found, "fs")  # noqa: B009 - the library that reaches this kind of store is imported here
    return found


def tried(what: str, action: Callable[[], _T]) -> _T:
    """What an action on a store gives, tried again for some seconds where the store does not answer.

    Raises:
        HeadPursuitError: it failed, with what was done and why.
    """
    with _reaching(what):
        for wait in _WAITS:
            try:
                return action()
            except _FINAL:
                raise
            except Exception:  # libraries of stores raise anything at all
                time.sleep(wait)
        return action()


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    """The one boundary around stores: whatever a library raises inside becomes one line."""
    try:
        yield
    except HeadPursuitError:
        raise
    except FileNotFoundError as error:
        raise HeadPursuitError(f"{what}: there is no such file, folder or bucket") from error
    except PermissionError as error:
        raise HeadPursuitError(f"{what}: no permission ({_said(error)}); check the credentials") from error
    except ImportError as error:
        raise HeadPursuitError(f"{what}: {_said(error)}; pip install 'headpursuit[cloud]' brings s3fs") from error
    except Exception as error:
        raise HeadPursuitError(
            f"{what}: the store does not answer, or refuses ({_said(error)}): "
            "check address, network and credentials, then run again"
        ) from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def matching(pattern: str | Path) -> list[Path] | None:
    """The files that a pattern with ``*``, ``?`` or ``[…]`` means, in the order of their names; None where it is no pattern.

    What there is by that very name is no pattern; neither is a folder in front of one.

    Raises:
        HeadPursuitError: nothing matches.
    """
    text = str(pattern)
    where = address(text)
    # In an address of the web a question mark is no pattern.
    if not _MAGIC.search(text) or (where or "").startswith("http") or (where is None and _is_there(text)):
        return None
    fs, root = _opened(where or str(Path(text).expanduser()))
    if where and tried(where, partial(fs.exists, root)):
        return None
    folder, _, last = root.rpartition("/")

    def found() -> list[str]:
        if _MAGIC.search(folder) and fs.isdir(folder):
            names = [name for name in fs.ls(folder, detail=False) if fnmatch.fnmatchcase(name.rpartition("/")[2], last)]
        else:
            names = fs.glob(root)
        return sorted(name for name in names if not fs.isdir(name))

    names = tried(text, found)
    if not names:
        raise HeadPursuitError(
            f"no file matches {text:.80}: give the path of a file, or a pattern that matches some; a text goes in a list"
        )
    return [reachable(fs.unstrip_protocol(name) if where else name) for name in names]


def _is_there(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, or nobody's home
        return False


class _Stage:
    """A folder on this machine whose files are sent to a store as soon as they are whole."""

    def __init__(self, where: str, folder: Path) -> None:
        self.fs, self.root = _opened(where)
        self.where, self.folder = where, folder
        self.seen: dict[str, Any] = {}

    def fetch(self) -> None:
        """Copy what lies in the store.

        Raises:
            HeadPursuitError: it is a file, or cannot be read.
        """
        if tried(self.where, partial(self.fs.isfile, self.root)):
            raise HeadPursuitError(f"{self.where} is a file: choose another folder")
        for name, about in tried(self.where, self._list).items():
            if not name or name.startswith("/") or ".." in name.split("/") or (self.folder / name).is_dir():
                continue
            self.get(name)
            self.seen[name] = _version(about)

    def get(self, name: str) -> None:
        """Copy one file, whole or not at all."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with _whole(target) as draft:
            tried(f"{self.where}/{name}", partial(self.fs.get_file, self._at(name), str(draft)))

    def send(self, file: Path) -> None:
        """Send one file; with one that names others (JSON at the top of the folder) whatever was not sent yet."""
        if file.parent == self.folder and file.suffix == ".json":
            self.send_all(but=file)
        self._send(file)
        self._forget()

    def send_all(self, *, but: Path | None = None) -> None:
        """Send every file that was not sent, and delete from the store what is gone here."""
        here = {str(one.relative_to(self.folder)): one for one in sorted(self.folder.rglob("*")) if one.is_file()}
        for name, file in here.items():
            if name not in self.seen and file != but and not file.name.startswith("."):
                self._send(file)
        self._forget()

    def _forget(self) -> None:
        """Delete from the store what is gone here."""
        for name in [name for name in self.seen if not (self.folder / name).is_file()]:
            tried(f"{self.where}/{name}", partial(self._remove, name))
            del self.seen[name]

    def _send(self, file: Path) -> None:
        name = str(file.relative_to(self.folder))
        what = f"{self.where}/{name}"
        there = tried(what, lambda: self._about(name))
        if there and _version(there) != self.seen.get(name):
            if tried(what, lambda: self.fs.cat_file(self._at(name))) != file.read_bytes():
                raise HeadPursuitError(
                    f"{what} was written by another run meanwhile, and is left as it is: wait until that is done, or choose "
                    "another folder"
                )
        else:
            tried(what, lambda: self.fs.put_file(str(file), self._at(name)))
        self.seen[name] = _version(tried(what, lambda: self._about(name)))

    def _remove(self, name: str) -> None:
        if self._about(name):
            self.fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _about(self, name: str) -> Any:
        self.fs.invalidate_cache()
        try:
            return self.fs.info(self._at(name))
        except FileNotFoundError:
            return None

    def _list(self) -> dict[str, Any]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(self.root, detail=True)
        except FileNotFoundError:
            found = {}
        if not found and self.fs.protocol in ("s3", ("s3", "s3a")) and not self.fs.exists(self.root.split("/")[0]):
            raise FileNotFoundError(self.root)
        return {name[len(self.root.rstrip("/")) + 1 :]: about for name, about in found.items()}


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A draft that takes a copy's name once the block is left."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


# By which a store tells one version of a file from another, whatever it calls it.
_TELLING = ("ETag", "etag", "generation", "md5Hash", "size", "LastModified", "last_modified", "updated", "mtime", "created")


def _version(about: Any) -> Any:
    return None if about is None else [str(about[key]) for key in _TELLING if key in about]


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """The folder on this machine that stands for a folder in a store: what lies there is in it, what is written in it is sent.

    A folder on this machine stands for itself.

    Args:
        out: the folder.

    Raises:
        HeadPursuitError: the store cannot be reached or written, or another run writes the same files.
        MissingExtraError: what reaches this kind of store is not installed.
    """
    where = address(out)
    if where is None:
        yield Path(out).expanduser()
        return
    folder = Path(tempfile.mkdtemp(prefix="headpursuit-")).resolve()
    stage = _Stage(where, folder)
    try:
        stage.fetch()
        _staged[folder] = stage
        yield folder
        stage.send_all()
    except HeadPursuitError as error:  # says where things are, and not where they were written first
        raise type(error)(str(error).replace(str(folder), where)) from error
    finally:
        _staged.pop(folder, None)
        shutil.rmtree(folder, ignore_errors=True)


def fetched(path: str | Path) -> Path:
    """A copy on this machine of a folder in a store, kept as long as this process runs; a folder on this machine itself.

    Raises:
        HeadPursuitError: the store cannot be reached.
        MissingExtraError: what reaches this kind of store is not installed.
    """
    where = address(path)
    if where is None:
        return Path(path)
    folder = Path(tempfile.mkdtemp(prefix="headpursuit-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _Stage(where, folder).fetch()
    return folder


def cache_folder() -> Path:
    """Where copies of what lies in stores are kept: ``HEADPURSUIT_CACHE``, or ``headpursuit`` in the system's folder of caches.

    Where neither can be written it is a folder that goes with this process.
    """
    home = Path.home()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")}
    caches = usual.get(sys.platform) or Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = Path(os.environ.get("HEADPURSUIT_CACHE") or caches / "headpursuit")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder.resolve()
    except OSError:
        pass
    folder = Path(tempfile.mkdtemp(prefix="headpursuit-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def mirrored(where: str, index: str) -> Path | None:
    """A folder of the cache for a folder in a store that one of its files, the index, describes; None where there is none.

    That file is fetched, the others when :func:`checked_here` asks for them. A folder with another index has another mirror.

    Raises:
        HeadPursuitError: the store cannot be reached.
        MissingExtraError: what reaches this kind of store is not installed.
    """
    fs, root = _opened(where)
    name = f"{root.rstrip('/')}/{index}"
    fs.invalidate_cache()
    if not tried(where, partial(fs.isfile, name)):
        return None
    content = tried(f"{where}/{index}", partial(fs.cat_file, name))
    stage = _Stage(where, cache_folder() / hashlib.sha256(where.encode() + content).hexdigest()[:32])
    stage.folder.mkdir(parents=True, exist_ok=True)
    with _whole(stage.folder / index) as draft:
        draft.write_bytes(content)
    _mirrored[stage.folder] = stage
    return stage.folder


def linked_mirror(folder: Path, where: str, index: str) -> Path:
    """The mirror of a folder that was just sent to a store, with what lies in it, so that nothing is fetched again.

    Raises:
        HeadPursuitError: the store cannot be reached, or holds something else by now.
    """
    mirror = mirrored(where, index)
    if mirror is None or (mirror / index).read_bytes() != (folder / index).read_bytes():
        raise HeadPursuitError(f"{where} was written by another run meanwhile: choose another folder")

    def link(old: str, new: str) -> None:
        if not Path(new).exists():
            try:
                os.link(old, new)
            except OSError:  # another disk, or a system without links
                shutil.copy2(old, new)

    shutil.copytree(folder, mirror, copy_function=link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    return mirror


def checked_here(file: Path, check: Callable[[], None]) -> None:
    """Check a file; one that a mirror lacks, or that fails there, is fetched first.

    Raises:
        HeadPursuitError: what the check raises; the store cannot be reached.
    """
    stage = next((stage for folder, stage in _mirrored.items() if file.is_relative_to(folder)), None)
    if stage is None:
        check()
        return
    if file.is_file():
        try:
            check()
            return
        except HeadPursuitError:  # damaged since: what lies in the store counts
            pass
    stage.get(str(file.relative_to(stage.folder)))
    try:
        check()
    except HeadPursuitError as error:
        raise type(error)(str(error).replace(str(stage.folder), stage.where)) from error


def sent(file: Path) -> None:
    """Send a file that is whole now, where its folder stands for one in a store."""
    for folder, stage in list(_staged.items()):
        if file.absolute().is_relative_to(folder):
            stage.send(file.absolute())


def put(file: Path, where: str) -> None:
    """Send one file to an address."""
    fs, root = _opened(where)
    tried(where, lambda: fs.put_file(str(file), root))
