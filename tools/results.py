"""Run all recipes of the demo and write docs/results.md from what they measured: ``python -m tools.results``.

Every sentence about what held is made from the numbers; by hand is only what does not depend on them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tools.selection import DEMO, write_selection
from tools.tuned import tuned_section

import headpursuit as hp
from headpursuit.drawing import save_figure
from headpursuit.drawing.style import SELECTION_NAMES, signed
from headpursuit.editing.where import ALL
from headpursuit.evaluation.metrics import NEUTRAL_TASK
from headpursuit.evaluation.results import Comparison, Results
from headpursuit.report.figures import figures
from headpursuit.report.tables import Table, as_table, tables, transfer
from headpursuit.report.text import number, shown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images" / "results"
DESCRIBED_SHOWN = 12
AGAINST = ("somp", "logit_lens", "attribution", "random")
# In the order of the paper's experiments.
RECIPES = (
    "demo-describe",
    "demo-qa-countries",
    "demo-rude",
    "demo-digits",
    "demo-caption-colors",
    "demo-caption-sentiments",
    "demo-caption-quantity",
    "demo-transfer",
    "demo-caption-alpha",
    "demo-colors-image",
    "demo-colors-generated",
)


def main() -> None:
    """Run what has not been run yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "headpursuit-results", help="where cells are kept")
    parser.add_argument("--limit", type=int, help="samples a task and split at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("recipes", nargs="*", default=RECIPES, help="only these, for a page of a part")
    options = parser.parse_args()
    model = hp.load("demo", device="cpu")
    found = []
    if options.recipes == RECIPES:
        compared = hp.evaluate(
            "demo-selection", model, out=options.out / "demo-selection", limit=options.limit, seed=options.seed
        )
        write_selection(compared, "demo", head=DEMO)
    for name in options.recipes:
        print(name, flush=True)
        where = {"out": options.out / name, "limit": options.limit, "seed": options.seed}
        found.append(hp.evaluate(name, model, **where))
    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.glob("*.png"):
        old.unlink()
    parts = [page_head(found, limit=options.limit), summary(found), *map(section, found)]
    if tuple(options.recipes) == RECIPES:
        kept = {"out": options.out / "tuned", "images": IMAGES}
        parts.append(tuned_section(model, **kept, limit=options.limit, seed=options.seed))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")


def page_head(found: Sequence[Results], *, limit: int | None) -> str:
    """What the numbers are of and how to get them again."""
    first = found[0]
    shortened = "" if limit is None else f", at most {limit} samples a task and split (a shortened run)"
    return "\n\n".join(
        [
            "# Results",
            "Written by `python -m tools.results` from the runs themselves; do not edit. The demo model is small and its world "
            "is drawn: these numbers show that the method and its protocol work, not how well they work on a large model. The "
            "paper's own recipes have the same form and wait for its checkpoints (`headpursuit evaluate`).",
            f"Model `{first.model['id']}`, fingerprint `{first.model['fingerprint']}`; seed {first.seed}{shortened}; "
            + ", ".join(f"{name} {version}" for name, version in first.versions.items())
            + ".",
            "Heads are chosen on selection samples and edited on test samples that share none with them. Intervals are "
            "95 %, by a paired bootstrap over test samples (and over draws, for random heads). Random heads are as many in "
            "each layer as those of a recipe's first method and none of them; their columns give the median of the draws and "
            "its quartiles. Log-odds and likelihoods are in nats, read along given texts without generating.",
        ]
    )


def summary(all_results: Sequence[Results]) -> str:
    """How often the contest's heads did more than others, over all recipes, counted."""
    lines = ["## What held, and what did not"]
    # Recipes of several concepts run the same edits again on other tasks and scales; each edit counts once.
    # Edits of chosen tokens have a table of their own.
    everywhere = [results for results in all_results if _tokens(results) == ALL]
    single = [results for results in everywhere if len(results.concepts) == 1]
    judged = [one for results in single for one in results.comparisons if one.wanted != "same"]
    for kind, wanted in (("suppressed", "less"), ("enhanced", "more")):
        for what, is_kind in (("generated answers", False), ("log-odds, teacher-forced", True)):
            of_kind = [one for one in judged if one.wanted == wanted and ("teacher-forced" in one.task) == is_kind]
            for against in AGAINST:
                if any(one.against == against for one in of_kind):
                    lines.append(_count(of_kind, kind, what, against))
    lines += [_by_concept(judged).to_markdown().strip(), _cost(single).to_markdown().strip()]
    lines += [table.to_markdown().strip() for table in _restricted(all_results)]
    lost = [one for one in judged if one.verdict == "worse"]
    lines.append(
        f"The contest's heads did less than others, with an interval away from 0, in {len(lost)} comparison(s):" if lost else ""
    )
    lines.append("\n".join(f"- {_in_words(one)}" for one in lost))
    return "\n\n".join(line for line in lines if line)


def _count(judged: Sequence[Comparison], kind: str, what: str, against: str) -> str:
    own = [one for one in judged if one.against == against]
    verdicts = Counter(one.verdict for one in own)
    better = sum((one.difference < 0) == (one.wanted == "less") and one.difference != 0 for one in own)
    even = sum(one.difference == 0 for one in own)
    concepts = len({one.concept for one in own})
    name = {"somp": "SOMP's", "logit_lens": "the logit lens's", "attribution": "attribution's", "random": "random"}[against]
    return (
        f"- {kind}, {what}, {concepts} concepts: against {name} heads at equal k, the contest's moved the target further "
        f"in {better} of {len(own)} cases and as far in {even}; told apart by the interval: {verdicts['better']} for the "
        f"contest, {verdicts['worse']} against it, {verdicts['open']} open."
    )


def _by_concept(judged: Sequence[Comparison]) -> Table:
    lines = []
    for concept, scale in dict.fromkeys((one.concept, one.scale) for one in judged):
        line = {"concept": concept, "α": signed(scale)}
        for what, forced in (("target", False), ("log-odds", True)):
            for against in AGAINST:
                counts = Counter(
                    one.verdict
                    for one in judged
                    if (one.concept, one.scale, one.against) == (concept, scale, against)
                    and ("teacher-forced" in one.task) == forced
                )
                told = f"{counts['better']} / {counts['open']} / {counts['worse']}" if counts else ""
                line[f"{what}: {SELECTION_NAMES[against]}"] = told
        lines.append(line)
    return as_table("Contest better / not told apart / worse, over k", lines)


def _cost(all_results: Sequence[Results]) -> Table:
    """What the most heads cost on neutral text: a choice that breaks everything lowers its target, too."""
    lines = []
    for results in all_results:
        neutral = [row for row in results.rows if row.task == NEUTRAL_TASK and row.selection != "none"]
        most = max((row.k for row in neutral), default=0)
        for concept, scale in dict.fromkeys((row.concept, row.scale) for row in neutral):
            found = {row.selection: row for row in neutral if (row.concept, row.scale, row.k) == (concept, scale, most)}
            names = {one: SELECTION_NAMES[one] + (" [quartiles]" if one == "random" else " [95 %]") for one in found}
            edit = {"recipe": results.recipe, "heads of": concept, "α": signed(scale), "k": str(most)}
            lines.append(edit | {names[one]: shown(row) for one, row in found.items()})
    return as_table(
        "What the edits cost elsewhere: change of the negative log-likelihood of neutral text, nats a token",
        [{str(key): value for key, value in line.items()} for line in pd.DataFrame(lines).fillna("").to_dict("records")],
    )


def _restricted(all_results: Sequence[Results]) -> list[Table]:
    """Heads edited at all tokens, at the image's, at generated ones: one table a concept that was tried at several."""
    found = []
    restricted = [results for results in all_results if _tokens(results) != ALL]
    for concept in dict.fromkeys(row.concept for results in restricted for row in results.rows):
        rows = [row for results in all_results for row in results.rows if row.concept == concept]
        by_edit = {(row.task, row.metric, row.k, row.scale, row.selection, row.where): row for row in rows}
        tokens = list(dict.fromkeys(row.where for row in rows if row.selection == "somp"))
        lines = []
        for edit in dict.fromkeys(key[:4] for key in by_edit if key[5] != ALL and key[4] != "none"):
            task, metric, k, scale = edit
            cells = {
                f"{where}: {SELECTION_NAMES[one]}": shown(by_edit.get((*edit, one, where)))
                for where in tokens
                for one in ("somp", "random")
            }
            lines.append({"task": task, "metric": metric, "k": str(k), "α": signed(scale), **cells})
        what = "what is left (or the change); samples and draws are each recipe's own"
        title = f"{concept}: heads edited at all tokens and at chosen ones, {what}"
        found.append(as_table(title, lines))
    return found


def _tokens(results: Results) -> str:
    """The tokens at which the edits held."""
    return next((row.where for row in results.rows if row.selection != "none"), ALL)


def _in_words(one: Comparison) -> str:
    other = SELECTION_NAMES[one.against]
    spread = None if one.low is None or one.high is None else (one.low, one.high)
    edit = f"{one.concept}, {one.task}, {one.metric}, α = {signed(one.scale)}, k = {one.k}"
    return f"{edit}, against {other}: {number(one.difference, spread)}"


def section(results: Results) -> str:
    """One recipe: its figures and tables, or for named heads the best of them."""
    parts = [f"## {results.title}", f"`headpursuit evaluate {results.recipe}` · {results.settings.get('paper', '')}"]
    for name, figure in figures(results).items():
        if "-map-" in name:  # the runs' own folders hold them
            continue
        file = f"{results.recipe}-{name}.png"
        save_figure(figure, IMAGES / file)
        parts.append(f"![{results.recipe}, {name}](images/results/{file})")
    listed = tables(results)
    if results.descriptions:
        frame = listed[0].frame
        best = frame.loc[frame["explained"].str.removesuffix(" %").astype(float).nlargest(DESCRIBED_SHOWN).index]
        listed = [Table(f"{listed[0].title}: the {len(best)} best explained", best)]
    elif transfer(results):
        listed = [table for table in listed if table.title.startswith(("Transfer", "Heads shared"))]
    body = "\n".join(table.to_markdown() for table in listed)
    k = max((row.k for row in results.rows), default=0)
    chosen = [
        f"{one.name}: "
        + "; ".join(
            f"{SELECTION_NAMES.get(method, method)} {', '.join(head.name for head in one.heads(k, method=method))}"
            for method in one.rankings
        )
        for one in results.concepts
    ]
    if chosen:
        parts.append("Heads, best first. " + ". ".join(chosen) + ".")
    return "\n\n".join([*parts, f"<details><summary>Tables</summary>\n\n{body}\n</details>"])


if __name__ == "__main__":
    main()
