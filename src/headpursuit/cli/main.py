"""The application: its commands, and what becomes of a mistake."""

import os
import sys
from typing import Annotated

import typer

from headpursuit import __version__
from headpursuit.cli.attribute import attribute
from headpursuit.cli.capture import capture
from headpursuit.cli.compare import compare
from headpursuit.cli.concept_map import concept_map
from headpursuit.cli.concepts import concepts
from headpursuit.cli.demo import demo
from headpursuit.cli.describe import describe
from headpursuit.cli.evaluate import evaluate
from headpursuit.cli.export import export
from headpursuit.cli.generate import generate
from headpursuit.cli.keywords import keywords
from headpursuit.cli.models import models
from headpursuit.cli.prompt import prompt
from headpursuit.cli.rank import rank
from headpursuit.cli.report import report
from headpursuit.cli.tune import tune
from headpursuit.cli.verify import verify
from headpursuit.errors import HeadPursuitError

app = typer.Typer(
    name="headpursuit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find, explain and edit the attention heads of Hugging Face language and vision-language models.",
)
_COMMANDS = (
    *(demo, capture, describe, rank, attribute, compare, generate, prompt, export, verify),
    *(tune, evaluate, concepts, keywords, models, report),
)
for command in _COMMANDS:
    app.command()(command)
app.command("map")(concept_map)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headpursuit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options that belong to no command."""


def main() -> None:
    """Run a command; exit 0 when done, 1 with one clear line when it failed, 2 on wrong usage."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except HeadPursuitError as error:
        sys.stderr.write(f"headpursuit: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"headpursuit: {file}{error.strerror or error}\n")
        sys.exit(1)
