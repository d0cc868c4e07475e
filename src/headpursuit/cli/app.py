"""``headpursuit app``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, note, print_json

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@options.loads_a_model
def playground(
    model: options.Model = "demo",
    capture: Annotated[Path | None, typer.Option(help="A capture of the model; left out, samples are captured.")] = None,
    samples: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The capture's, to be shown; or those to capture.", show_default="packaged ones"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; whoever reaches it can use the model.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen at.", show_default="the first free one from 7860")
    ] = None,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    *,
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """A page on which heads are found for a concept, opened, scaled and heard, beside the unedited model and random heads."""
    from headpursuit.app.page import free_port, gradio, started

    gradio()
    port = free_port(host, port)
    if capture is not None:
        check_capture(capture)

    from headpursuit.app.playground import open_playground

    opened = open_playground(model, capture=capture, samples=samples, seed=seed, **load_options)
    if host not in _LOOPBACK:
        note(f"whoever reaches {host} can use this page and the model")
    with started(opened, host=host, port=port, open=open) as address:
        if json:
            print_json({"address": address, "model": opened.model.identity, "n": opened.acts.n, "seed": seed})
        else:
            typer.echo(f"{opened.model.source.id} at {address} (Ctrl-C ends it)")
        while True:
            time.sleep(1)
