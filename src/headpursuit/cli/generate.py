"""``headpursuit generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    RevisionOption,
    SeedOption,
    TrustOption,
    print_json,
)
from headpursuit.errors import HeadPursuitError


def generate(
    model: ModelArgument,
    prompt: Annotated[list[str], typer.Option(help="What to ask; may be given several times.")],
    image: Annotated[Path | None, typer.Option(help="An image that every prompt speaks of.")] = None,
    heads: Annotated[Path | None, typer.Option(help="A heads.json that `rank --out` wrote.")] = None,
    head: Annotated[list[str] | None, typer.Option(help="Heads by name, such as L18.H27.")] = None,
    scale: Annotated[float, typer.Option(help="Factor of their contribution: −1 suppresses, 5 enhances.")] = -1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 writes the likeliest text, more draws with --seed.")
    ] = 0.0,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Do not use the model's chat template.")] = False,
    revision: RevisionOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    trust_remote_code: TrustOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write on from a prompt; with heads, once unedited and once with the heads scaled."""
    from headpursuit.editing.edit import HeadEdit
    from headpursuit.model.load import load
    from headpursuit.model.samples import Sample
    from headpursuit.ranking.ranking import load_heads, read_heads

    if heads is not None and head:
        raise HeadPursuitError("give either --heads FILE or --head NAME, not both")
    if heads is not None and not heads.is_file():
        raise HeadPursuitError(f"there is no file {heads}: write one with `headpursuit rank --out`")
    samples = [Sample(text=text, image=image, chat=not no_chat, where=f"--prompt {text!r}") for text in prompt]
    named = HeadEdit(head, scale=scale) if head else None
    wanted = named.heads if named else () if heads is None else read_heads(heads).heads
    loaded = load(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        part=wanted[0].part if wanted else "text",
    )
    edit = named if heads is None else HeadEdit(load_heads(heads, model=loaded), scale=scale)
    if edit is not None:
        loaded.anatomy.require(edit.heads)
    drawing = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    options = {"max_new_tokens": max_new_tokens, "seed": seed, **drawing}
    unedited = loaded.generate(samples, **options)
    edited = None
    if edit is not None:
        with edit.applied(loaded):
            edited = loaded.generate(samples, **options)
    if json:
        content = {
            "model": loaded.identity,
            "edit": None if edit is None else {"heads": [one.name for one in edit.heads], "scale": edit.scale},
            "seed": seed,
            "outputs": [
                {"prompt": text, "unedited": plain, "edited": None if edited is None else edited[index]}
                for index, (text, plain) in enumerate(zip(prompt, unedited, strict=True))
            ],
        }
        print_json(content)
        return
    for index, text in enumerate(prompt):
        if edited is None:
            typer.echo(unedited[index].strip())
        else:
            typer.echo(f"{text}\n  unedited: {unedited[index].strip()}\n  {edit}: {edited[index].strip()}")
