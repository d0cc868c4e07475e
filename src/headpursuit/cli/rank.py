"""``headpursuit rank``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, check_out, check_plot, note, print_json, print_table, save_plot
from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.ranking.ranking import Beside


@options.may_have_workers
def rank(
    acts: options.Acts,
    concept: options.ConceptOrTexts = None,
    positive: options.Positive = None,
    negative: options.Negative = None,
    method: options.RankingMethod = "calibrated",
    top: options.Top = None,
    n_atoms: options.Atoms = 50,
    criterion: options.Criterion = None,
    multi_token: options.MultiToken = "skip",
    fold_norm: options.FoldNorm = False,
    significance: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Test every head against N random token sets (z, p, q), which measure it, too."),
    ] = 0,
    tail: Annotated[
        str, typer.Option(help="p beyond the reach of N sets: fitted (log-normal), or counted (none below 1/(N+1)).")
    ] = "fitted",
    frequencies: Annotated[
        Path | None, typer.Option(help="Text or samples whose token counts the random sets are matched to.")
    ] = None,
    text_column: options.TextColumn = None,
    stability: Annotated[
        int, typer.Option(min=0, metavar="N", help="Rank N times again on samples drawn anew, and with words left out.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the heads here, for `generate --heads`.")] = None,
    plot: options.Plot = None,
    trust_remote_code: options.Trust = False,
    *,
    workers: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Order all heads by how much a concept explains of what they write; needs no model in memory."""
    from headpursuit.engines import as_engine, held
    from headpursuit.ranking.methods import CALIBRATED, MEASURES, METHODS, SHOWN, as_ranking_method, check_criterion, method_key

    if frequencies is not None and not significance:
        raise HeadPursuitError("--frequencies are for random token sets: give --significance N, too")
    if text_column is not None and frequencies is None:
        raise HeadPursuitError("--text-column is the field of --frequencies' texts: give --frequencies FILE, too")
    if method_key(method) in set(MEASURES) - {CALIBRATED, *METHODS}:
        raise HeadPursuitError(f"--method {method} runs the model: headpursuit select MODEL --samples FILE --method {method}")
    engine = as_engine(**workers)
    check_out(out)
    check_plot(plot)
    check_capture(acts)
    check_criterion(criterion)
    view, words = as_ranking_method(method), options.given_concept(concept, positive, negative)

    from headpursuit.activations.store import open_capture
    from headpursuit.ranking.rank import rank as rank_heads
    from headpursuit.ranking.significance import significance as test_heads
    from headpursuit.ranking.stability import stability as disturb

    opened = open_capture(acts, trust_remote_code=trust_remote_code)
    settings: dict[str, Any] = {
        "method": view,
        "n_atoms": n_atoms,
        "criterion": criterion,
        "multi_token": multi_token,
        "fold_norm": fold_norm,
    }
    beside: list[Beside] = []
    with held(engine) as settings["engine"]:
        if significance:
            counts = None if frequencies is None else _counts(opened, frequencies, text_column=text_column)
            tested = test_heads(
                opened,
                words,
                **settings,
                draws=significance,
                frequencies=counts,
                tail=tail,  # type: ignore[arg-type]
                seed=seed,
            )
            ranking = tested.ranking
            beside.append(tested)
        else:
            ranking = rank_heads(opened, words, **settings, seed=seed)
        if stability:
            k = ranking.few() if top is None else min(top, len(ranking.order()))
            beside.append(disturb(opened, words, **settings, k=k, draws=stability, seed=seed))
    if out is not None:
        note(f"wrote {ranking.save(out, top=top, beside=beside)}")
    if plot is not None:
        save_plot(ranking.plot(k=ranking.few() if top is None else top), plot)
    if json:
        print_json({**ranking.heads_file(top=top, beside=beside), "seed": seed})
        return
    options.note_dropped(words, opened.tokenizer, multi_token)
    content = ranking.heads_file(top=top or SHOWN, beside=beside)
    form = ".1%" if ranking.method == "somp" else ".2f"
    forms = {**_FORMS, "score": form, "null": form}
    columns = ["score", *(name for name in _FORMS if name in content["heads"][0])]
    shown = {"score": MEASURES[ranking.method], **_TITLES}
    rows = [
        [str(number), entry["name"], *(f"{entry[name]:{forms[name]}}" for name in columns)]
        for number, entry in enumerate(content["heads"], start=1)
    ]
    title = f"{ranking.concept} ({len(ranking.words)} atoms) in {opened.model['id']}, {ranking.n} samples"
    headings = [shown.get(name, name) for name in columns]
    print_table(title, ["rank", "head", *headings], rows, right=["rank", *headings])
    for one in beside:
        note(_remark(one))


# Columns of what stands beside a score, in the order in which they are shown.
_FORMS = {
    "explained": ".1%",
    "logit_z": ".1f",
    "null": "",
    "z": ".1f",
    "p": ".2g",
    "q": ".2g",
    "stays_samples": ".0%",
    "stays_words": ".0%",
}
_TITLES = {
    "explained": "explained variance",
    "logit_z": "z of the logit",
    "null": "by chance",
    "stays_samples": "stays (samples)",
    "stays_words": "stays (words)",
}


def _counts(acts: HeadActivations | HeadMoments, file: Path, *, text_column: str | None) -> Any:
    from headpursuit.model.samples import as_samples
    from headpursuit.ranking.null import token_counts

    texts = [sample.text for sample in as_samples(file, text_column=text_column)]
    return token_counts(acts.tokenizer, texts, vocabulary_size=len(acts.weights.unembedding()))


def _remark(one: Beside) -> str:
    from headpursuit.ranking.significance import Significance
    from headpursuit.ranking.stability import Stability

    if isinstance(one, Significance):
        return (
            f"{len(one.found())} of {len(one.ranking.order())} heads have q ≤ 0.05 (Benjamini-Hochberg) against {one.draws} "
            f"random token sets matched in {' and '.join(one.matched)}; p is {one.tail}"
        )
    assert isinstance(one, Stability)
    means = {"samples": one.jaccard_samples, "words": one.jaccard_words}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in means.items() if value is not None)
    return f"mean Jaccard similarity of the best {one.k} over {one.draws} draws each: {shown or 'nothing to draw from'}"
