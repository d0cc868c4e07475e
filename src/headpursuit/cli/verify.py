"""``headpursuit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli.common import DeviceOption, JsonOption, RevisionOption, SeedOption, TrustOption, print_json
from headpursuit.errors import HeadPursuitError


def verify(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that `headpursuit export` wrote.")],
    samples: Annotated[
        Path | None, typer.Option(help="A .txt, .jsonl, .csv or .parquet file, or a folder of images; a few texts if none.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The unedited model, where it is no longer where the export found it.")
    ] = None,
    revision: RevisionOption = None,
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Load an export again, compare its logits with the edited original's, and say which tensors differ."""
    from headpursuit.exporting.verify import verify as verify_export

    found = verify_export(out, samples, model=model, revision=revision, device=device, trust_remote_code=trust_remote_code)
    if json:
        print_json(
            {
                "out": str(found.folder),
                "format": found.format,
                "ok": found.ok,
                "n": found.n,
                "exact": found.exact,
                "bit_equal": found.bit_equal,
                "error": found.error,
                "tolerance": found.tolerance,
                "same_choice": found.same_choice,
                "differing": list(found.differing),
                "surprises": list(found.surprises),
                "seed": seed,
            }
        )
    else:
        for key in found.differing:
            typer.echo(f"differs from the original: {key}")
        typer.echo(str(found))
    if not found.ok:
        raise HeadPursuitError(f"{out} is not the edit that it says it is: {found}")
