"""The options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.cli.output import note
from headpursuit.errors import SEEDS, HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.model.samples import Sample

# So many of the words that were left out are listed.
_SHOWN_WORDS = 8

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Seed = Annotated[int, typer.Option(min=SEEDS[0], max=SEEDS[1], help="Seed of whatever is drawn at random.")]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Hub name, local folder in the Hub's format, .gguf file, or 'demo'.")
]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag on the Hub.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, …, or auto (over all, and the disk); CUDA when there is one.")
]
Dtype = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.")]
Acts = Annotated[Path, typer.Argument(metavar="ACTS", help="A folder that `headpursuit capture` wrote.")]
Concept = Annotated[
    str, typer.Option(metavar="NAME|FILE|WORDS", help="A built-in concept, a file of words, or words (red,green,blue).")
]
ConceptOrTexts = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE|WORDS", help="A built-in concept, a file of words, words (red,green,blue); or give texts."),
]
Positive = Annotated[str | None, typer.Option(metavar="FILE", help="Texts with the concept, in place of --concept.")]
Negative = Annotated[str | None, typer.Option(metavar="FILE", help="Texts without it, which else are alike.")]
Method = Annotated[str, typer.Option(help="somp (share of variance explained) or logit-lens (mean logit).")]
RankingMethod = Annotated[
    str,
    typer.Option(
        help="somp (share of variance explained), logit-lens (mean logit), or calibrated (both, in deviations above chance)."
    ),
]
Top = Annotated[
    int | None,
    typer.Option(min=1, help="How many heads to show and to write.", show_default="16 shown; 2 % written, at most 8"),
]
Criterion = Annotated[
    str | None,
    typer.Option(help="What a pursuit chooses by: l1 (the paper's; from rows) or l2; of moments l2.", show_default="l1"),
]
Atoms = Annotated[int, typer.Option(min=1, help="Pursuit steps at most.")]
MultiToken = Annotated[str, typer.Option(help="Words of several tokens: skip, first or mean.")]
FoldNorm = Annotated[bool, typer.Option("--fold-norm", help="Fold the final norm's gain into the dictionary.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it here, .png or .svg.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")]

TextColumn = Annotated[str | None, typer.Option(metavar="FIELD", help="Field of the samples' text; a.b for b within a.")]
ImageColumn = Annotated[str | None, typer.Option(metavar="FIELD", help="Field of the samples' image.")]
TargetColumn = Annotated[str | None, typer.Option(metavar="FIELD", help="Field of the samples' target.")]

EngineOption = Annotated[str, typer.Option("--engine", help="local, or ray: workers of the cluster at RAY_ADDRESS, or here.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of --engine ray.", show_default="as many as fit")]
CpusPerWorker = Annotated[float | None, typer.Option(help="CPUs that each worker takes.", show_default="1")]
GpusPerWorker = Annotated[float | None, typer.Option(help="GPUs that each worker takes.", show_default="0")]

# What every command that loads a model takes, with its default.
_LOADING: dict[str, tuple[Any, Any]] = {
    "revision": (Revision, None),
    "device": (Device, None),
    "dtype": (Dtype, "auto"),
    "trust_remote_code": (Trust, False),
}
# What every command that reads samples takes.
_COLUMNS: dict[str, tuple[Any, Any]] = {
    "text_column": (TextColumn, None),
    "image_column": (ImageColumn, None),
    "target_column": (TargetColumn, None),
}
# What every command takes whose work workers can do, as `engines.as_engine` does.
_ENGINE: dict[str, tuple[Any, Any]] = {
    "engine": (EngineOption, "local"),
    "workers": (Workers, None),
    "cpus_per_worker": (CpusPerWorker, None),
    "gpus_per_worker": (GpusPerWorker, None),
}


def given_concept(concept: str | None, positive: str | None, negative: str | None) -> Any:
    """The concept that words or two files of texts give, the latter called by the first file's name.

    Raises:
        HeadPursuitError: neither or both are given, or one file of texts alone.
    """
    from headpursuit.concepts import Concept, as_concept

    if concept is not None and positive is None and negative is None:
        return as_concept(concept)
    if concept is not None or positive is None or negative is None:
        raise HeadPursuitError("the concept: give --concept, or both --positive FILE and --negative FILE")
    return Concept.from_texts(positive, negative, name=Path(positive).stem)


def note_dropped(concept: Any, tokenizer: Any, multi_token: str) -> None:
    """Say which words of a concept no token stands for, if there are any; of texts nobody chose the words."""
    from headpursuit.concepts import resolve

    if concept.texts is not None:
        return
    dropped = resolve(concept, tokenizer, multi_token=multi_token).dropped_words  # type: ignore[arg-type]
    if dropped:
        shown = ", ".join(dropped[:_SHOWN_WORDS]) + (", …" if len(dropped) > _SHOWN_WORDS else "")
        note(
            f"{len(dropped)} of {len(concept.words)} words are no single token here and were left out: {shown}; "
            "--multi-token first or mean takes their pieces"
        )


def loads_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of :func:`headpursuit.load`, which it is given as one mapping, ``load_options``."""
    return _with_options(command, _LOADING, into="load_options")


def reads_samples(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options for the names of fields, which it is given as one mapping, ``columns``."""
    return _with_options(command, _COLUMNS, into="columns")


def may_have_workers(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options for where its work is done, which it is given as one mapping, ``workers``."""
    return _with_options(command, _ENGINE, into="workers")


def refuse_without_samples(**given: object) -> None:
    """Refuse options that speak of samples where none are given.

    Raises:
        HeadPursuitError: naming the first of them.
    """
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        raise HeadPursuitError(f"--{name.replace('_', '-')} speaks of samples: give --samples, or leave it out")


def samples_of(
    acts: HeadActivations | HeadMoments,
    samples: str | None,
    *,
    columns: dict[str, Any],
    limit: int | None,
    sample: int | None,
    seed: int,
) -> list[Sample] | None:
    """The samples that a capture was made of, as many as it read where neither limit nor sample is given; None without any."""
    from headpursuit.model.samples import as_samples

    if samples is None:
        return None
    first = limit if limit or sample else acts.about["n_samples"]
    return as_samples(samples, **columns, limit=first, sample=sample, seed=seed)


_GIVEN_LAST = ("load_options", "seed", "json")


def _with_options(command: Callable[..., None], added: dict[str, tuple[Any, Any]], *, into: str) -> Callable[..., None]:
    own = inspect.signature(command, eval_str=True).parameters
    more = {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in added.items()
    }
    # Seed and JSON close the list of every command's options.
    shown = [one for name, one in own.items() if name not in (*_GIVEN_LAST, into)]
    parameters = [*shown, *more.values(), *(own[name] for name in _GIVEN_LAST if name in own and name != into)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(**{into: {name: given.pop(name) for name in added}}, **given)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    )
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
