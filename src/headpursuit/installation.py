"""What is installed here, and what is missing: ``hp.doctor``."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

from packaging.requirements import Requirement

from headpursuit.versions import __version__

_NAME = "headpursuit"
_SHOWN = ("torch", "transformers", "huggingface_hub", "safetensors", "numpy", "pandas")


@dataclass(frozen=True)
class Installation:
    """What a run here depends on.

    Attributes:
        versions: of this package, Python, the system and the libraries that every command needs, by name.
        devices: where models can run, the best one last; each with its name, and its memory in GiB where it has its own.
        extras: for every extra what it lacks, as ``name (why)``; empty where all is there.
        missing: what is lacking of that which every command needs, likewise.
        hub: the folder of the Hub's cache, and whether it is all that is asked (offline).
    """

    versions: Mapping[str, str]
    devices: Sequence[Mapping[str, Any]]
    extras: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    hub: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether nothing is lacking that every command needs."""
        return not self.missing


def doctor() -> Installation:
    """What is installed, which devices there are, and what each extra lacks.

    Examples:
        >>> found = hp.doctor()
        >>> found.ok, found.devices[0]["device"], found.extras["tune"]
        (True, 'cpu', ())
    """
    shown = {name: found for name in _SHOWN if (found := _version(name)) is not None}
    devices, failed = _devices()
    try:
        known = [name for name in metadata(_NAME).get_all("Provides-Extra") or () if name not in ("all", "dev")]
        missing = _missing("")
    except PackageNotFoundError:
        known, missing = [], (f"{_NAME} (it runs from a folder, and is not installed)",)
    return Installation(
        versions={_NAME: __version__, "python": platform.python_version(), "system": platform.platform(), **shown},
        devices=devices,
        extras={name: _missing(name) for name in sorted(known)},
        missing=(*missing, *failed),
        hub=_hub(),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _missing(extra: str) -> tuple[str, ...]:
    """What is lacking of the requirements of an extra, or of those without one where it is empty."""
    found: dict[str, None] = {}
    for line in requires(_NAME) or ():
        wanted = Requirement(line)
        asked = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
        if not asked or (extra and (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))):
            continue
        if wanted.name == _NAME:
            found.update(dict.fromkeys(one for name in sorted(wanted.extras) for one in _missing(name)))
            continue
        there = _version(wanted.name)
        if there is None:
            found[f"{wanted.name} (not installed)"] = None
        elif not wanted.specifier.contains(there, prereleases=True):
            found[f"{wanted.name} ({there} is here, {wanted.specifier} is needed)"] = None
    return tuple(found)


def _devices() -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Where models can run, and why none can."""
    try:
        import torch
    except Exception as error:  # a library that it loads may be broken in any way
        return (), (f"torch (it cannot be imported: {' '.join(str(error).split())[:200]})",)
    found: list[dict[str, Any]] = [
        {"device": "cpu", "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    ]
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    for number in range(torch.cuda.device_count()):
        own = torch.cuda.get_device_properties(number)
        found.append({"device": f"cuda:{number}", "name": own.name, "memory": round(own.total_memory / 2**30, 1)})
    return tuple(found), ()


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    return {"cache": os.fspath(constants.HF_HUB_CACHE), "offline": bool(constants.HF_HUB_OFFLINE)}
