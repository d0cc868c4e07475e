"""``headpursuit generate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.edits import EditOption, HeadOption, HeadsOption, ScaleOption, read_edit
from headpursuit.cli.output import note, print_json
from headpursuit.errors import HeadPursuitError

# Nats that the median token may lose before a reader is told.
_FLUENT = 0.2


@options.loads_a_model
def generate(
    model: options.Model,
    prompt: Annotated[list[str], typer.Option(help="What to ask; may be given several times.")],
    image: Annotated[Path | None, typer.Option(help="An image that every prompt speaks of.")] = None,
    heads: HeadsOption = None,
    head: HeadOption = None,
    scale: ScaleOption = None,
    where: Annotated[
        str | None, typer.Option(help="Tokens that are edited: all, image, text, prompt or generated.", show_default="all")
    ] = None,
    edit: EditOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 writes the likeliest text, more draws with --seed.")] = 0.0,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Do not use the model's chat template.")] = False,
    *,
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Write on from a prompt; with heads, once unedited and once with the heads scaled."""
    from headpursuit.model.samples import Sample

    samples = [Sample(text=text, image=image, chat=not no_chat, where=f"--prompt {text!r}") for text in prompt]
    samples[0].open_image()
    chosen, origin = read_edit(heads=heads, head=head, edit=edit, scale=scale, where=where)
    if chosen is not None and "image" in chosen.token_groups and image is None:
        raise HeadPursuitError("the edit holds at an image's tokens, and there is none: give --image FILE, or another --where")

    from headpursuit.editing.fluency import fluency_cost
    from headpursuit.model.identity import require_same_model
    from headpursuit.model.load import load

    loaded = load(model, part="text" if chosen is None else chosen.heads[0].part, **load_options)
    if origin is not None:
        require_same_model(str(heads or edit), origin, loaded.identity)
    if chosen is not None:
        loaded.anatomy.require(chosen.heads)
    drawing = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    writing = {"max_new_tokens": max_new_tokens, "seed": seed, **drawing}
    unedited = loaded.generate(samples, **writing)
    edited, cost = None, None
    if chosen is not None:
        with chosen.applied(loaded):
            edited = loaded.generate(samples, **writing)
        # Along a given text no token counts as generated, and a mask has the prompt's length.
        if any(text.strip() for text in unedited) and set(chosen.token_groups) <= {"all", "image", "text"}:
            cost = fluency_cost(loaded, chosen, samples, unedited)
    if json:
        content = {
            "model": loaded.identity,
            "edit": None if chosen is None else chosen.to_dict(),
            "fluency_cost": cost,
            "seed": seed,
            "outputs": [
                {"prompt": text, "unedited": plain, "edited": None if edited is None else edited[index]}
                for index, (text, plain) in enumerate(zip(prompt, unedited, strict=True))
            ],
        }
        print_json(content)
        return
    if cost is not None and cost > _FLUENT:
        note(
            f"half of the tokens that the unedited model writes here lose more than {cost:.2f} nats under this edit, so that "
            "its text may be broken: take fewer heads (`rank --top`), or a scale nearer to 1"
        )
    for index, text in enumerate(prompt):
        if edited is None:
            typer.echo(unedited[index].strip())
        else:
            typer.echo(f"{text}\n  unedited: {unedited[index].strip()}\n  {chosen}: {edited[index].strip()}")
