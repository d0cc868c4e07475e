"""The application: its commands, and what becomes of a mistake."""

import os
import sys
from typing import Annotated

import typer

from headpursuit import __version__
from headpursuit.cli.app import playground
from headpursuit.cli.atlas import atlas
from headpursuit.cli.capture import capture
from headpursuit.cli.compare import compare
from headpursuit.cli.concept_map import concept_map
from headpursuit.cli.concepts import concepts
from headpursuit.cli.demo import demo
from headpursuit.cli.describe import describe
from headpursuit.cli.doctor import doctor
from headpursuit.cli.evaluate import evaluate
from headpursuit.cli.export import export
from headpursuit.cli.failures import one_line_each
from headpursuit.cli.generate import generate
from headpursuit.cli.keywords import keywords
from headpursuit.cli.models import models
from headpursuit.cli.prompt import prompt
from headpursuit.cli.rank import rank
from headpursuit.cli.report import report
from headpursuit.cli.select import select
from headpursuit.cli.suppress import enhance, suppress
from headpursuit.cli.tune import tune
from headpursuit.cli.verify import verify

app = typer.Typer(
    name="headpursuit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find, explain and edit the attention heads of Hugging Face language and vision-language models.",
)
_COMMANDS = (
    *(demo, capture, describe, atlas, rank, select, compare, generate, prompt, export, verify),
    *(suppress, enhance, tune, evaluate, concepts, keywords, models, report, doctor),
)
for command in _COMMANDS:
    app.command()(command)
app.command("map")(concept_map)
app.command("app")(playground)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headpursuit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error came from.")] = False,
) -> None:
    """Options that belong to no command."""


def main() -> None:
    """Run a command.

    Exits with 0 when done, 1 with one clear line when it failed, 2 on wrong usage, 130 and 143 when a signal stopped it.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        # A terminal in cp1252 has no α, and generated text can hold what no encoding has.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Wherever it stands: it is added to the end of a line that failed.
    words = [word for word in sys.argv[1:] if word != "--debug"]
    with one_line_each(words, debug=len(words) < len(sys.argv) - 1):
        # Not by itself, since it would show wrong usage with whatever stands in it.
        sys.exit(app(words, standalone_mode=False))
