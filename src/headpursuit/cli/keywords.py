"""``headpursuit keywords``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, note, print_json
from headpursuit.files import locked


@options.reads_samples
def keywords(
    samples: Annotated[Path, typer.Argument(metavar="FILE", help="Model answers (.txt, .jsonl, …), or a folder of images.")],
    kind: Annotated[str, typer.Option(help="toxic (words of the answers) or image (what can be seen).")],
    model: Annotated[str, typer.Option(help="Name of the model to ask, as the endpoint has it.")],
    out: Annotated[Path, typer.Option(help="Write the words here; those held out go beside it.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible, up to /v1; else OPENAI_BASE_URL.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="Better set OPENAI_API_KEY: others can see a command's options.")] = None,
    avoid: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Words not to keep, such as class names.")
    ] = None,
    at_least: Annotated[int, typer.Option(min=1, help="Keep words given for so many samples.")] = 1,
    held_out: Annotated[float, typer.Option(min=0, max=0.99, help="Share of the words kept for counting.")] = 0.3,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask about the first so many samples.")] = None,
    per_minute: Annotated[float, typer.Option(min=0.1, help="Requests a minute at most.")] = 60.0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a reply.")] = 120.0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of replies, to go on after a break; beside --out when left out.")
    ] = None,
    *,
    columns: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Make a word list from answers or images with a language model behind an OpenAI-compatible endpoint."""
    check_out(out, stores=False)

    from headpursuit.concepts import as_concept
    from headpursuit.concepts.endpoint import endpoint_from
    from headpursuit.concepts.keywords import keywords as ask_for_words
    from headpursuit.model.samples import as_samples

    asked = endpoint_from(
        base_url=endpoint,
        model=model,
        key=api_key,
        cache=cache or out.with_name(f"{out.name}.replies"),
        per_minute=per_minute,
        timeout=timeout,
    )
    given = as_samples(samples, **columns, limit=limit)
    avoided = [word for one in avoid or () for word in as_concept(one).words]
    with locked(out, beside=True):
        found = ask_for_words(
            given,
            asked,
            kind=kind,  # type: ignore[arg-type]
            avoid=avoided,
            at_least=at_least,
            held_out=held_out,
            seed=seed,
        )
        files = [str(file) for file in found.save(out) if file is not None]
    for one in found.bad:
        note(f"bad reply, {one}")
    if json:
        print_json({**found.to_dict(), "files": files, "asked": asked.asked, "from_cache": asked.recalled})
        return
    refused = ", ".join(f"{count} {reason}" for reason, count in found.refused.items())
    typer.echo(
        f"{len(found.words)} words and {len(found.held_out)} held out, of {found.samples} samples, in {' and '.join(files)} "
        f"({len(found.bad)} bad replies; refused words: {refused or 'none'}; {asked.recalled} replies were known)"
    )
