"""``headpursuit describe``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, check_plot, note, print_json, print_table, save_plot
from headpursuit.errors import HeadPursuitError


@options.reads_samples
@options.may_have_workers
def describe(
    acts: options.Acts,
    head: Annotated[list[str] | None, typer.Option(help="Such as L18.H27; all heads when left out.")] = None,
    n_atoms: Annotated[int, typer.Option(min=1, help="Tokens a head.")] = 5,
    method: Annotated[str, typer.Option(help="somp (Table 1) or logit-lens (Table 6).")] = "somp",
    criterion: options.Criterion = None,
    fold_norm: options.FoldNorm = False,
    dictionary: Annotated[
        str,
        typer.Option(
            metavar="PARTS|CONCEPT",
            help="What may name a head: all, words, a script (latin, han, …), seen or seen:FILE, joined by +; or a concept.",
        ),
    ] = "all",
    significance: Annotated[
        int, typer.Option(min=0, metavar="N", help="Test every name against N random turns of what the head writes (p, q).")
    ] = 0,
    examples: Annotated[int, typer.Option(min=0, metavar="N", help="Show N samples that drive each head (--samples).")] = 0,
    samples: Annotated[str | None, typer.Option(help="The file that was captured, for --examples and for `seen`.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="As for `capture`; as many as it read when left out.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, metavar="N", help="As for `capture`, with its --seed.")] = None,
    plot: options.Plot = None,
    trust_remote_code: options.Trust = False,
    *,
    workers: dict[str, Any],
    columns: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Name heads by the tokens that explain what they write; needs no model in memory."""
    from headpursuit.concepts import as_concept
    from headpursuit.concepts.vocabulary_parts import parts_of
    from headpursuit.engines import as_engine
    from headpursuit.model.heads import parse_heads
    from headpursuit.ranking.methods import as_method, check_criterion

    engine = as_engine(**workers)
    check_capture(acts)
    check_plot(plot)
    check_criterion(criterion)
    chosen, wanted = as_method(method), parse_heads(head) if head else None
    if samples is None and (examples or limit or sample):
        raise HeadPursuitError("a capture keeps no texts: give the samples that it was made of with --samples FILE")
    if samples is None:
        options.refuse_without_samples(**columns)
    try:
        named_by = dictionary if parts_of(dictionary) else as_concept(dictionary)
    except HeadPursuitError as error:
        raise HeadPursuitError(
            f"--dictionary: all, words, seen or a script (latin, …) of the vocabulary, or a concept; {error}"
        ) from error

    from headpursuit.activations.store import open_capture
    from headpursuit.ranking.describe import describe as describe_heads

    opened = open_capture(acts, trust_remote_code=trust_remote_code)
    given = options.samples_of(opened, samples, columns=columns, limit=limit, sample=sample, seed=seed)
    described = describe_heads(
        opened,
        heads=wanted,
        n_atoms=n_atoms,
        method=chosen,
        criterion=criterion,  # type: ignore[arg-type]
        fold_norm=fold_norm,
        dictionary=named_by,
        significance=significance,
        examples=examples,
        samples=given,
        engine=engine,
        seed=seed,
    )
    n = described[0].n if described else opened.n
    if plot is not None:
        save_plot(described.plot(title=f"{opened.model['id']}, {n} samples"), plot)
    if json:
        print_json(
            {
                "model": dict(opened.model),
                "method": chosen,
                "positions": opened.positions,
                "n": n,
                "seed": seed,
                "dictionary": described.dictionary,
                "tokens": described.n_tokens,
                "unused_rows": described.unused_rows,
                "reserved_rows": described.reserved_rows,
                "heads": [one.to_dict() for one in described],
            }
        )
        return
    measured = ["fit", "by chance", "q"] if significance else ["explained" if chosen == "somp" else "of samples"]
    rows = []
    for one in described:
        found = one.evidence
        numbers = [f"{one.share:.1%}"] if found is None else [f"{value:.3g}" for value in (found.fit, found.by_chance, found.q)]
        rows.append([one.head.name, *numbers, one.name()])
        blank = [""] * (1 + len(measured))
        rows += [[*blank, f"{example.score:+.2g}  {example.text}"] for example in one.examples]
    print_table(
        f"{opened.model['id']}, {n} samples, positions {opened.positions}, {chosen}; "
        f"{described.n_tokens} tokens ({described.dictionary})",
        ["head", *measured, "tokens"],
        rows,
        right=measured,
    )
    for remark in described.remarks():
        note(remark)
    if chosen == "somp" and not significance:
        note("not tested against chance: --significance 200 tells which of these are names (extra stats)")
