"""``headpursuit select``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, note, print_json, print_table
from headpursuit.errors import HeadPursuitError, check_choice

_METHODS = "contest, calibrated, somp, logit-lens, cosine, attribution, natural, integrated, greedy, knockout, fusion."


@options.loads_a_model
@options.reads_samples
@options.may_have_workers
def select(
    model: options.Model,
    samples: Annotated[
        str | None, typer.Option(help="Samples, with targets that speak of the concept where log-odds are read; or give texts.")
    ] = None,
    concept: options.ConceptOrTexts = None,
    positive: options.Positive = None,
    negative: options.Negative = None,
    method: Annotated[str, typer.Option(help=_METHODS)] = "contest",
    top: options.Top = None,
    scale: Annotated[float | None, typer.Option(help="The edit's factor (of edits); -1.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Points along the scale (integrated); 8.")] = None,
    groups: Annotated[int | None, typer.Option(min=1, help="Groups of heads, each on its own way (integrated); 1.")] = None,
    k: Annotated[
        int | None, typer.Option(min=1, help="Heads that are taken one by one (greedy; 16), edited at once (contest; 2 %).")
    ] = None,
    cost: Annotated[float | None, typer.Option(help="Nats a token at which edits are compared (contest); 0.1.")] = None,
    masks: Annotated[int | None, typer.Option(min=1, help="Random sets of heads (knockout); 200.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of the heads in a set (knockout).")] = None,
    neutral: Annotated[
        str | None, typer.Option(metavar="FILE", help="Neutral texts: what edits cost (contest, natural, knockout, fusion).")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="effect (of knock-outs), or effect_per_cost or natural, which need --neutral.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep each set's measurement here, and go on from there (knockout).")
    ] = None,
    best: Annotated[float | None, typer.Option(help="Share of heads that each cheap method hands on (fusion); 0.1.")] = None,
    passes: Annotated[int | None, typer.Option(min=1, help="Passes over the neutral texts (natural); 2.")] = None,
    without: Annotated[str | None, typer.Option(metavar="FILE", help="Samples without the concept (cosine).")] = None,
    positions: Annotated[str | None, typer.Option(help="Tokens whose mean is read (where a capture is read); mean.")] = None,
    n_atoms: Annotated[int | None, typer.Option(min=1, help="Pursuit steps at most (calibrated, somp); 50.")] = None,
    fold_norm: options.FoldNorm = False,
    multi_token: options.MultiToken = "skip",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples that run together; fewer need less memory.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the heads here, for `generate --heads`.")] = None,
    edit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the best heads' edit, with signs and sizes, for `generate --edit`."),
    ] = None,
    *,
    workers: dict[str, Any],
    columns: dict[str, Any],
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Order all heads by any method that runs the model: what heads write, derivatives, or knock-outs."""
    from headpursuit.engines import LOCAL, as_engine
    from headpursuit.model.samples import as_samples
    from headpursuit.ranking.methods import KNOCKOUT_ORDERS, as_selector

    engine = as_engine(**workers)
    check_out(out)
    check_out(edit)
    check_out(measured, folder=True)
    if order is not None:
        check_choice(KNOCKOUT_ORDERS, order=order)
    chosen, words = as_selector(method), options.given_concept(concept, positive, negative)
    given = None if samples is None else as_samples(samples, **columns, limit=limit)
    given_for: dict[str, Any] = {"scale": scale, "steps": steps, "groups": groups, "k": k, "masks": masks, "share": share}
    given_for |= {
        "order": order,
        "best": best,
        "cost": cost,
        "passes": passes,
        "out": measured,
        "positions": positions,
        "n_atoms": n_atoms,
        "fold_norm": fold_norm or None,
        "batch_size": batch_size,
        "limit": limit if samples is None else None,
        "engine": None if engine == LOCAL else engine,
    }
    texts = {"neutral": neutral, "without": without}
    given_for |= {name: None if file is None else as_samples(file) for name, file in texts.items()}

    from headpursuit.editing.edit import write_edit
    from headpursuit.model.load import load
    from headpursuit.ranking.methods import SHOWN
    from headpursuit.ranking.select import options_of
    from headpursuit.ranking.select import select as select_heads

    taken = options_of(chosen)
    if edit is not None and "scale" not in taken:
        del given_for["scale"]
    own = {name: value for name, value in given_for.items() if value is not None}
    for name in own:
        if name not in taken:
            option = "measured" if name == "out" else name.replace("_", "-")
            raise HeadPursuitError(f"--method {method} takes no --{option}: leave it out, or choose another method")
    if "seed" in taken:
        own["seed"] = seed
    loaded = load(model, **load_options)
    ranking = select_heads(loaded, given, words, method=chosen, multi_token=multi_token, **own)
    if out is not None:
        note(f"wrote {ranking.save(out, top=top)}")
    if edit is not None:
        most = None if top is None else min(top, len(ranking.order()))
        made = ranking.edit(most, scale=-1.0 if scale is None else scale)
        write_edit(edit, made, model=ranking.model)
        note(f"wrote {edit}: {made}")
    if json:
        print_json({**ranking.heads_file(top=top), "seed": seed})
        return
    options.note_dropped(words, loaded.tokenizer, multi_token)
    content = ranking.heads_file(top=top or SHOWN)
    shown = ["score", *(name for name in ranking.values if name != "effect" or ranking.unit != "nats")]
    rows = [
        [str(number), entry["name"], *(f"{entry[name]:+.4f}" for name in shown)]
        for number, entry in enumerate(content["heads"], start=1)
    ]
    title = f"{ranking.concept} by {ranking.method} in {loaded.source.id}, {ranking.n} samples; score in {ranking.unit}"
    print_table(title, ["rank", "head", *shown], rows, right=["rank", *shown])
    note(f"cost: {ranking.cost}")
