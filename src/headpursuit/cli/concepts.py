"""``headpursuit concepts``."""

from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import print_json, print_table


def concepts(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|FILE|WORDS]", help="Show the words of one.")] = None,
    model: Annotated[str | None, typer.Option(help="Also show which tokens of this model's vocabulary they are.")] = None,
    multi_token: options.MultiToken = "skip",
    trust_remote_code: options.Trust = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """List the built-in concepts, or show the words of one and the tokens that they become."""
    from headpursuit.concepts import as_concept, concept_names, resolve

    if name is None:
        found = [as_concept(known) for known in concept_names()]
        if json:
            print_json({"concepts": [{"name": one.name, "words": list(one.words)} for one in found], "seed": seed})
            return
        rows = [[one.name, str(len(one.words)), ", ".join(one.words[:6])] for one in found]
        print_table("built-in concepts", ["name", "words", "such as"], rows, right=["words"])
        return
    chosen = as_concept(name)
    report = None
    if model is not None:
        from headpursuit.model.load import load_tokenizer

        report = resolve(chosen, load_tokenizer(model, trust_remote_code=trust_remote_code), multi_token=multi_token).report  # type: ignore[arg-type]
    if json:
        resolution = None if report is None else report.to_dict()
        print_json({"name": chosen.name, "words": list(chosen.words), "resolution": resolution, "seed": seed})
    else:
        typer.echo(", ".join(chosen.words) if report is None else str(report))
