"""``headpursuit attribute``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, note, print_json, print_table


@options.loads_a_model
@options.reads_samples
def attribute(
    model: options.Model,
    samples: Annotated[str, typer.Option(help="Samples with targets that speak of the concept.")],
    concept: options.Concept,
    top: options.Top = None,
    multi_token: options.MultiToken = "skip",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples that run together; fewer need less memory.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write the heads here, for `generate --heads`.")] = None,
    *,
    columns: dict[str, Any],
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Order all heads by how the concept's log-odds change with their scale: one forward and one backward pass."""
    from headpursuit.concepts import as_concept
    from headpursuit.model.samples import as_samples

    check_out(out)
    words, given = as_concept(concept), as_samples(samples, **columns, limit=limit)

    from headpursuit.model.load import load
    from headpursuit.ranking.attribution import attribute as attribute_heads
    from headpursuit.ranking.methods import SHOWN

    loaded = load(model, **load_options)
    ranking = attribute_heads(
        loaded,
        given,
        words,
        multi_token=multi_token,  # type: ignore[arg-type]
        batch_size=batch_size,
    )
    if out is not None:
        note(f"wrote {ranking.save(out, top=top)}")
    if json:
        print_json({**ranking.heads_file(top=top), "seed": seed})
        return
    rows = [
        [str(number), head.name, f"{ranking.score(head):+.4f}"]
        for number, head in enumerate(ranking.order()[: top or SHOWN], start=1)
    ]
    title = f"{ranking.concept} in {loaded.source.id}, {ranking.n} samples: log-odds (nats) a unit of scale"
    print_table(title, ["rank", "head", "derivative"], rows, right=["rank", "derivative"])
