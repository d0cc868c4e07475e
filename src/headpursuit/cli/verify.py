"""``headpursuit verify``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import print_json
from headpursuit.errors import HeadPursuitError


@options.reads_samples
def verify(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder or .gguf file that `headpursuit export` wrote.")],
    samples: Annotated[Path | None, typer.Option(help="A file of samples, or a folder of images; a few texts if none.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The unedited model, where it is no longer where the export found it.")
    ] = None,
    revision: options.Revision = None,
    device: options.Device = None,
    trust_remote_code: options.Trust = False,
    *,
    columns: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Load an export again, compare its logits with the edited original's, and say which tensors differ."""
    from headpursuit.model.samples import as_samples

    if samples is None:
        options.refuse_without_samples(**columns)
    given = None if samples is None else as_samples(samples, **columns)

    from headpursuit.exporting.verify import verify as verify_export

    found = verify_export(out, given, model=model, revision=revision, device=device, trust_remote_code=trust_remote_code)
    if json:
        print_json({**vars(found), "out": found.folder, "ok": found.ok, "seed": seed})
    else:
        typer.echo(f"{'verified: it does what the edit does' if found.ok else 'it does something else'}; {found}")
        for key in found.differing:
            typer.echo(f"{'changed, as meant' if found.ok else 'differs from the original'}: {key}")
    if not found.ok:
        raise HeadPursuitError(f"{out} is not the edit that it says it is: {found}")
