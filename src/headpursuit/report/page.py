"""The page of a result: one HTML file that needs nothing but a browser, and leads with what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headpursuit.drawing import Figure, effects, to_svg
from headpursuit.drawing.style import SELECTION_NAMES, readable, token
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.curves import in_words
from headpursuit.evaluation.results import ConceptResult, Results
from headpursuit.files import csv_text, write_text
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.report.figures import described_figure, sweeps, transfer_figures
from headpursuit.report.summary import EditSummary, amount, edits
from headpursuit.report.tables import Reportable, as_table, largest_k, overview, tables
from headpursuit.report.templating import environment
from headpursuit.report.text import percent
from headpursuit.tuning.tune import Tuned

WORDS_SHOWN = 24
# Of more concepts than this only the first is unfolded.
_UNFOLDED = 2
# Inches that a map of a concept is wide at most.
_THUMBNAIL = 2.9
_TABLES = "Tables, data and recipe"


def page(what: Reportable, path: str | Path) -> Path:
    """Write one self-contained HTML page: no script, no font, no image is fetched from anywhere.

    Args:
        what: an evaluation, several (such as the demo's), a tuned edit, or a ranking.
        path: the file to write, replaced if it exists; its folder is made if needed.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the file cannot be written.
        MissingExtraError: jinja2 or matplotlib is not installed.

    >>> page(hp.rank(acts, hp.concept("colours")), tmp_path / "colours.html").name
    'colours.html'
    """
    template = environment().get_template("page.html")
    text = template.render(**_view(what))
    try:
        return write_text(path, text)
    except OSError as error:
        raise HeadPursuitError(f"cannot write the report to {path}: {error.strerror or error}") from error


def _view(what: Reportable) -> dict[str, Any]:
    if isinstance(what, HeadRanking):
        (table,) = tables(what)
        best, name = what.order()[0], readable(what.concept)
        charts = [("", [_svg(what.plot(k=0), f"Score of every head for {name}", cells=what)])]
        share = f"{what.score(best):.3f} by {_method(what.method)}"
        lead = [f"Of {len(what.order())} heads {best} writes most of {name}: {share}."]
        facts = _facts(what.model, {}, {"heads": len(what.order()), "samples": what.n})
        blocks = [_block(name, unfolded=True, words=what.words, charts=charts, heads=table)]
        return {"title": table.title, "claims": [], "lead": lead, "facts": facts, "overview": None, **_indexed(blocks)}
    several = [what.results] if isinstance(what, Tuned) else [what] if isinstance(what, Results) else list(what)
    concepts = [(results, concept, edits(results, concept)) for results in several for concept in results.concepts]
    first, alone = several[0], len(several) == 1
    models = {
        key: ", ".join(dict.fromkeys(str(one.model[key]) for one in several if one.model.get(key)))
        for key in ("id", "architecture", "fingerprint")
    }
    blocks = []
    if isinstance(what, Tuned):
        charts = [("", [_svg(what.plot(), "Every edit that was tried: effect over cost")])]
        misses = [f"missed: {miss}" for miss in what.misses]
        blocks.append(_block("Trade-off", unfolded=True, misses=misses, charts=charts, tables=tables(what)))
    for index, (results, concept, told) in enumerate(concepts):
        unfolded = index == 0 or len(concepts) <= _UNFOLDED
        of_model = (one for one in several if one.model.get("fingerprint") == results.model.get("fingerprint"))
        names = {one.head: one for same in of_model for one in same.descriptions if one.method == "somp"}
        blocks.append(_concept_block(results, concept, told, names, unfolded=unfolded))
    for results in several:
        blocks += _results_blocks(results, alone=alone, with_tables=not isinstance(what, Tuned))
    summaries = [one for *_, told in concepts for one in told]
    suppressing = [row for one in summaries if one.row.scale < 1 for row in one.target.values()] if len(concepts) > 1 else []
    svg = _svg(effects(suppressing), "What is left of each concept's target, beside the controls")
    indexed = _indexed(blocks)
    parts = {block["title"]: block["id"] for block in indexed["blocks"]}
    more = {
        "heads": next((one.n_heads for one in summaries), None),
        "seed": str(first.seed),
        "random draws": max(one.draws for one in several),
        "recipe": ", ".join(one.recipe for one in several),
    }
    return {
        "title": first.title or first.recipe if alone else f"What the heads of {models['id']} do",
        "claims": [{**_claim(one), "part": parts[readable(one.concept.name)]} for one in summaries],
        "lead": [sentence for one in several for sentence in in_words(one.curves)],
        "facts": _facts(models, first.versions, more),
        "overview": {"svg": svg if suppressing else None, "table": overview(several)} if len(summaries) > 1 else None,
        **indexed,
    }


def _claim(one: EditSummary) -> dict[str, Any]:
    """What an edit did, in words and as a thumbnail: its effect and the control's between nothing, the unedited model and the
    largest of them, each with its interval, as percentages of the width.
    """
    random, unedited = one.target.get("random"), 0.0 if one.row.normalized is None else 1.0
    rows = {"edit": one.row, **({} if random is None or random.effect is None else {"random": random})}
    values = [0.0, 1.2 * unedited, *(value for row in rows.values() for value in (row.effect or 0.0, *(row.spread or ())))]
    low, high = min(values), max(values)

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low) if high > low else 50.0

    marks = []
    for kind, row in rows.items():
        left, right = map(at, row.spread or (row.effect or 0.0,) * 2)
        marks.append({"kind": kind, "at": at(row.effect or 0.0), "left": left, "width": right - left})
    return {"told": one, "amount": amount(one.row), "unedited": at(unedited), "marks": marks}


def _facts(model: Mapping[str, Any], versions: Mapping[str, str], more: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = {name: model.get(key) for name, key in (("model", "id"), ("architecture",) * 2, ("fingerprint",) * 2)}
    found |= {**more, "versions": ", ".join(f"{name} {version}" for name, version in versions.items())}
    return [(key, str(value)) for key, value in found.items() if value]


def _concept_block(
    results: Results, concept: ConceptResult, told: Sequence[EditSummary], names: Mapping[Any, Any], *, unfolded: bool
) -> dict[str, Any]:
    name, k = readable(concept.name), largest_k(results, concept)
    charts: list[tuple[str, list[Any]]] = [("Where its heads are", [])] if concept.rankings else []
    for method, ranking in concept.rankings.items():
        title = f"{_method(method)}: score of every head for {name}, the best {k} outlined"
        charts[0][1].append(_svg(ranking.plot(k=k, title=_method(method), width=_THUMBNAIL), title, cells=ranking))
    titles = [one.name if one.row.selection == "tuned" else one.verb.capitalize() for one in told]
    drawn = [
        _svg(effects(one.rows, title=title), f"{name}: {one.name}, every measure beside its controls")
        for one, title in zip(told, titles, strict=True)
    ]
    charts += [("What else they move", drawn)] if told else []
    rows = [row for row in results.rows if row.concept == concept.name and row.selection != "none"]
    varied = len({row.k for row in rows}) > 1 or len({row.scale for row in rows}) > 2
    more = {key: figure for key, figure in sweeps(results, concept).items() if key != "effects"} if varied else {}
    lines = []
    scored = [(head, concept.rankings[concept.method].score(head)) for head in concept.heads(k)] if k and concept.method else []
    for head, score in scored:
        named = names.get(head)
        lines.append(
            {
                "head": head.name,
                "score": f"{score:.3f}".replace("-", "−"),
                "its tokens": "" if named is None else named.name(token),
                "explained": percent(named.explained_variance[-1]) if named and named.explained_variance else "",
            }
        )
    return _block(
        name,
        unfolded=unfolded,
        states=[(one.state[0], f"{one.verb}: {one.state[1]}") for one in told if one.state is not None],
        sentences=[one.sentence for one in told] if len(results.concepts) > 1 else [],
        misses=[readable(miss) for verdict in concept.verdicts for miss in verdict.misses],
        words=concept.counted or concept.words,
        charts=charts,
        heads=as_table("The edited heads, best first", lines) if lines else None,
        more=[_svg(figure, f"{name}: effects, {key}") for key, figure in more.items()],
        examples=concept.examples,
    )


def _results_blocks(results: Results, *, alone: bool, with_tables: bool) -> Iterator[dict[str, Any]]:
    of = "" if alone else f": {results.recipe}"
    if matrices := transfer_figures(results):
        svgs = [_svg(figure, f"{key}{of}") for key, figure in matrices.items()]
        yield _block(f"Across concepts{of}", unfolded=True, charts=[("", svgs)])
    if results.curves:
        text = "What each way to choose heads reaches for what it costs: the furthest of its edits, on held-out samples."
        charts = [("", [_svg(results.plot(), "Effect over cost")])]
        yield _block(f"At equal cost{of}", unfolded=True, sentences=[text], charts=charts)
    if (figure := described_figure(results)) is not None:
        text = "A pursuit over the whole vocabulary: the share of each head's variance that its tokens explain."
        charts = [("", [_svg(figure, "Named heads")])]
        yield _block(f"Heads named by their tokens{of}", unfolded=True, sentences=[text], charts=charts)
    frames = {"rows": results.to_frame(), "comparisons": results.comparisons_frame(), "points": results.curves_frame()}
    yield _block(
        f"{_TABLES}{of}",
        sentences=[
            f"{one.use} data of {readable(one.name)}: {one.n} samples, fingerprint {one.fingerprint}" for one in results.data
        ],
        tables=tables(results) if with_tables else [],
        downloads=[
            (f"Every number: {len(frame)} {name}", csv_text(frame, index=False)) for name, frame in frames.items() if len(frame)
        ],
        recipe=json.dumps(dict(results.settings), indent=1, ensure_ascii=False, default=str) if results.settings else "",
    )


def _block(title: str, **more: Any) -> dict[str, Any]:
    lists = ("states", "sentences", "misses", "words", "charts", "more", "examples", "tables", "downloads")
    block = {**{key: [] for key in lists}, "title": title, "unfolded": False, "heads": None, "recipe": "", **more}
    # One word can stand for several tokens, with and without a space or a capital.
    words = list({token(word).casefold(): token(word) for word in reversed(block["words"])}.values())[::-1]
    return {**block, "counted": block["words"], "words": words[:WORDS_SHOWN], "more_words": words[WORDS_SHOWN:]}


def _indexed(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Blocks with their names in links; of several with tables the index shows the first."""
    listed = [one["title"] for one in blocks]
    listed = [one for one in listed if not one.startswith(_TABLES)] + [one for one in listed if one.startswith(_TABLES)][:1]
    numbered = enumerate(blocks, start=1)
    return {"blocks": [{**one, "id": f"part-{index}", "indexed": one["title"] in listed} for index, one in numbered]}


def _svg(figure: Figure, title: str, *, cells: HeadRanking | None = None) -> Any:
    from markupsafe import Markup

    names = (
        []
        if cells is None
        else [
            f"L{layer}.H{head} " + (f"{score:.3f}" if np.isfinite(score) else "not measured")
            for (layer, head), score in np.ndenumerate(cells.scores)
        ]
    )
    return Markup(to_svg(figure, title=title, cells=names))


def _method(method: str) -> str:
    return SELECTION_NAMES.get(method.replace("-", "_"), method)
