"""``headpursuit export``."""

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.edits import EditOption, HeadOption, HeadsOption, ScaleOption, read_edit
from headpursuit.cli.output import check_out, note, print_json
from headpursuit.errors import HeadPursuitError


def export(
    model: options.Model,
    out: Annotated[Path, typer.Option(help="New folder (new file for .gguf) of the export; it appears when it is complete.")],
    heads: HeadsOption = None,
    head: HeadOption = None,
    scale: ScaleOption = None,
    edit: EditOption = None,
    format: Annotated[
        str | None,
        typer.Option(help="checkpoint, lora, ia3 or gguf.", show_default="gguf for a name that ends in .gguf, else checkpoint"),
    ] = None,
    max_rank: Annotated[int, typer.Option(min=1, help="The highest rank of a LoRA; vLLM serves none above 512.")] = 512,
    link: Annotated[
        bool, typer.Option("--link", help="Share unchanged weights' files with the original instead of copying them.")
    ] = False,
    revision: options.Revision = None,
    trust_remote_code: options.Trust = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Write an edit into a checkpoint's weights, into a GGUF file's, or into an adapter, for use without this package."""
    check_out(out, folder=(format or out.suffix.lower()) not in ("gguf", ".gguf"), stores=False)
    chosen, origin = read_edit(heads=heads, head=head, edit=edit, scale=scale)
    if chosen is None:
        raise HeadPursuitError("nothing to export: name heads with --heads FILE or --head NAME, or give --edit FILE")

    from headpursuit.exporting.export import export as export_edit

    done = export_edit(
        model,
        chosen,
        out,
        format=format,  # type: ignore[arg-type]
        max_rank=max_rank,
        link=link,
        origin=origin,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    for name in done.left_out:
        note(f"left out {name}: weights in another form, which hold no edit, or a pickle, which runs code when opened")
    if done.already:
        note(f"{out} is complete already")
    for one in done.stored:
        note(str(one))
    if json:
        stored = [{**vars(one), "exact": one.exact} for one in done.stored]
        print_json({**vars(done), "out": done.folder, "edit": done.edit.to_dict(), "stored": stored, "seed": seed})
        return
    rank = "" if done.rank is None else f" of rank {done.rank}"
    typer.echo(f"{done.format}{rank} in {done.folder}: {done.edit} ({len(done.changed)} tensors)")
