"""``headpursuit doctor``."""

from typing import Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import print_json, print_table
from headpursuit.errors import HeadPursuitError


def doctor(seed: options.Seed = 0, json: options.Json = False) -> None:
    """Say what is installed, where models can run, and what each extra lacks."""
    from headpursuit.installation import doctor as examine

    found = examine()
    if json:
        print_json({**vars(found), "ok": found.ok, "seed": seed})
    else:
        print_table("versions", ["what", "version"], [list(row) for row in found.versions.items()])
        print_table("devices", ["device", "what"], [[str(one["device"]), _told(one)] for one in found.devices])
        rows = [[name, ", ".join(lacks) or "all there", _remedy(name, lacks)] for name, lacks in found.extras.items()]
        print_table("extras", ["extra", "lacks", "how to get it"], rows)
        typer.echo(f"Hub cache: {found.hub['cache']}{' (offline)' if found.hub['offline'] else ''}")
    if not found.ok:
        raise HeadPursuitError(f"lacking: {', '.join(found.missing)}: pip install --upgrade headpursuit")


def _told(device: Any) -> str:
    own = [str(device["name"])]
    own += [f"{device['threads']} threads"] if "threads" in device else []
    own += [f"{device['memory']} GiB"] if "memory" in device else []
    return ", ".join(own)


def _remedy(name: str, lacks: Any) -> str:
    return f"pip install 'headpursuit[{name}]'" if lacks else ""
