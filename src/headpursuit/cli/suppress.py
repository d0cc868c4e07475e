"""``headpursuit suppress`` and ``headpursuit enhance``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, note, print_json, print_tables


def _command(name: str, doc: str) -> Callable[..., None]:
    @options.loads_a_model
    @options.reads_samples
    def command(
        model: options.Model,
        concept: options.Concept,
        samples: Annotated[
            str | None,
            typer.Option(help="Prompts on which the model speaks of the concept.", show_default="texts that it writes itself"),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Folder for the search and the export.", show_default=f"headpursuit-{name}/CONCEPT")
        ] = None,
        to: Annotated[
            str | None,
            typer.Option(help="checkpoint, lora, ia3 or gguf.", show_default="gguf for a GGUF file, else checkpoint"),
        ] = None,
        cost: Annotated[
            float | None,
            typer.Option(
                help="Largest divergence from the unedited model on neutral texts, in nats a token.",
                show_default="0.1; the demo's own 0.05",
            ),
        ] = None,
        neutral: Annotated[
            str | None, typer.Option(metavar="FILE", help="Neutral texts beside --samples.", show_default="packaged sentences")
        ] = None,
        push: Annotated[
            str | None, typer.Option(metavar="NAME", help="Upload the export to the Hub, effects and cost in its model card.")
        ] = None,
        public: Annotated[bool, typer.Option("--public", help="Make a new repository of --push public.")] = False,
        k: Annotated[int, typer.Option(min=1, help="Most heads of the edit.")] = 8,
        trials: Annotated[int, typer.Option(min=1, help="Edits to try.")] = 16,
        limit: Annotated[int, typer.Option(min=4, help="Samples a task and half at most.")] = 48,
        *,
        columns: dict[str, Any],
        load_options: dict[str, Any],
        seed: options.Seed = 0,
        json: options.Json = False,
    ) -> None:
        from headpursuit.concepts import as_concept
        from headpursuit.errors import check_choice
        from headpursuit.exporting.export import FORMATS
        from headpursuit.model.samples import as_samples

        words = as_concept(concept)
        folder = out or Path(f"headpursuit-{name}") / words.name
        check_out(folder, folder=True)
        if to is not None:
            check_choice(FORMATS, to=to)
        if samples is None:
            options.refuse_without_samples(**columns, neutral=neutral)
        asked = None if samples is None else as_samples(samples, **columns)
        texts = None if neutral is None else as_samples(neutral)

        from headpursuit.model.load import load
        from headpursuit.report import tables
        from headpursuit.steering import suppress as steering

        found = getattr(steering, name)(
            load(model, **load_options),
            words,
            samples=asked,
            out=folder,
            to=to,
            cost=cost,
            neutral=texts,
            push=push,
            public=public,
            k=k,
            trials=trials,
            limit=limit,
            seed=seed,
        )
        if json:
            print_json({**found.to_dict(), "out": str(folder)})
            return
        print_tables(tables(found.tuned)[:1])
        for one in found.texts:
            typer.echo(f"{one.prompt}\n  unedited: {one.unedited}\n  edited:   {one.edited}")
        if found.written:
            note(f"chosen and measured on {found.written} texts that the model wrote itself: --samples FILE takes your own")
        note(f"wrote {found.export.folder} ({found.export.format}); verified: {found.verification}")
        if found.pushed is not None:
            note(f"uploaded to {found.pushed}")

    command.__name__, command.__doc__ = name, doc
    return command


_REST = "chosen under a limit of cost, measured beside random heads, exported, verified."
suppress = _command("suppress", f"Make a model speak of a concept less: an edit {_REST}")
enhance = _command("enhance", f"Make a model speak of a concept more: an edit {_REST}")
