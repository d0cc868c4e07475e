"""Run all recipes of the demo and write docs/results.md from what they measured: ``python -m tools.results``.

Every sentence about what held is made from the numbers; by hand is only what does not depend on them.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tools.tuned import tuned_section

import headpursuit as hp
from headpursuit.editing.where import ALL
from headpursuit.evaluation.describe import describe_heads
from headpursuit.evaluation.evaluate import sweep
from headpursuit.evaluation.prepare import Source, gather
from headpursuit.evaluation.recipe import Recipe, load_recipe
from headpursuit.evaluation.results import Comparison, Results
from headpursuit.evaluation.teacher_forced_tasks import NEUTRAL_TASK
from headpursuit.model.head_model import HeadModel
from headpursuit.report.effects import SELECTION_NAMES
from headpursuit.report.evaluation import save_evaluation
from headpursuit.report.tables import Table, effect, number, results_tables
from headpursuit.report.text import signed

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images" / "results"
DESCRIBED_SHOWN = 12
AGAINST = ("logit_lens", "attribution", "random")
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
    source = Source(limit=options.limit, seed=options.seed)
    model = hp.load("demo", device="cpu")
    recipes = [load_recipe(name) for name in options.recipes]
    found = [(recipe, run(recipe, model, source, options.out / recipe.name)) for recipe in recipes]
    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.glob("*.png"):
        old.unlink()
    parts = [page_head(found, model, source), summary([results for _, results in found])]
    parts += [section(recipe, results, options.out / recipe.name) for recipe, results in found]
    if tuple(options.recipes) == RECIPES:
        kept = {"out": options.out / "tuned", "images": IMAGES}
        parts.append(tuned_section(model, **kept, limit=options.limit, seed=options.seed))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")


def run(recipe: Recipe, model: HeadModel, source: Source, out: Path) -> Results:
    """One recipe; cells that are there already are not run again."""
    print(recipe.name, flush=True)
    material = gather(recipe, source)
    if recipe.describe is not None:
        results = describe_heads(material, model, out=out)
    else:
        results = sweep(material, model, out=out, seed=source.seed).results
    save_evaluation(results, out)
    return results


def page_head(found: Sequence[tuple[Recipe, Results]], model: HeadModel, source: Source) -> str:
    """What the numbers are of and how to get them again."""
    versions = found[0][1].versions
    limit = "" if source.limit is None else f", at most {source.limit} samples a task and split (a shortened run)"
    return "\n\n".join(
        [
            "# Results",
            "Written by `python -m tools.results` from the runs themselves; do not edit. The demo model is small and its world "
            "is drawn: these numbers show that the method and its protocol work, not how well they work on a large model. The "
            "paper's own recipes have the same form and wait for its checkpoints (`headpursuit evaluate`).",
            f"Model `{model.source.id}`, fingerprint `{model.identity['fingerprint']}`, {len(model.anatomy.heads())} heads; "
            f"seed {source.seed}{limit}; " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
            "Heads are chosen on selection samples and edited on test samples that share none with them. Intervals are "
            "95 %, by a paired bootstrap over test samples (and over draws, for random heads). Random heads are as many in "
            "each layer as SOMP's and none of them; their columns give the median of the draws and its quartiles. Log-odds "
            "and likelihoods are in nats, read along given texts without generating.",
        ]
    )


def summary(all_results: Sequence[Results]) -> str:
    """How often SOMP's heads did more than others, over all recipes, counted."""
    lines = ["## What held, and what did not"]
    # Recipes of several concepts run the same edits again on other tasks and scales; each edit counts once.
    # Edits of chosen tokens have a table of their own.
    everywhere = [results for results in all_results if _place(results) == ALL]
    single = [results for results in everywhere if len(results.about["recipe"]["concepts"]) == 1]
    judged = [one for results in single for one in results.comparisons if one.wanted != "same"]
    for kind, wanted in (("suppressed", "less"), ("enhanced", "more")):
        for what, is_kind in (("generated answers", False), ("log-odds, teacher-forced", True)):
            of_kind = [one for one in judged if one.wanted == wanted and ("teacher-forced" in one.task) == is_kind]
            for against in AGAINST:
                if any(one.against == against for one in of_kind):
                    lines.append(_count(of_kind, kind, what, against))
    lines += [_by_concept(judged).to_markdown().strip(), _cost(single).to_markdown().strip()]
    lines += [table.to_markdown().strip() for table in _places(all_results)]
    lost = [one for one in judged if one.verdict == "worse"]
    lines.append(
        f"SOMP's heads did less than others, with an interval away from 0, in {len(lost)} comparison(s):"
        if lost
        else ""
    )
    lines.append("\n".join(f"- {_in_words(one)}" for one in lost))
    return "\n\n".join(line for line in lines if line)


def _count(judged: Sequence[Comparison], kind: str, what: str, against: str) -> str:
    own = [one for one in judged if one.against == against]
    verdicts = Counter(one.verdict for one in own)
    better = sum((one.difference < 0) == (one.wanted == "less") and one.difference != 0 for one in own)
    even = sum(one.difference == 0 for one in own)
    concepts = len({one.concept for one in own})
    name = {"logit_lens": "the logit lens's", "attribution": "attribution's", "random": "random"}[against]
    return (
        f"- {kind}, {what}, {concepts} concepts: against {name} heads at equal k, SOMP's moved the target further in {better} "
        f"of {len(own)} cases and as far in {even}; told apart by the interval: {verdicts['better']} for SOMP, "
        f"{verdicts['worse']} against it, {verdicts['open']} open."
    )


def _by_concept(judged: Sequence[Comparison]) -> Table:
    rows = []
    for concept in dict.fromkeys(one.concept for one in judged):
        for scale in dict.fromkeys(one.scale for one in judged if one.concept == concept):
            cells = []
            for forced in (False, True):
                for against in AGAINST:
                    own = [
                        one.verdict
                        for one in judged
                        if (one.concept, one.scale, one.against) == (concept, scale, against)
                        and ("teacher-forced" in one.task) == forced
                    ]
                    counts = Counter(own)
                    cells.append(f"{counts['better']} / {counts['open']} / {counts['worse']}" if own else "–")
            rows.append((concept, signed(scale), *cells))
    return Table(
        title="SOMP better / not told apart / worse, over k",
        header=(
            "concept",
            "α",
            *(f"{what}: {SELECTION_NAMES[one]}" for what in ("target", "log-odds") for one in AGAINST),
        ),
        rows=tuple(rows),
    )


def _cost(all_results: Sequence[Results]) -> Table:
    """What the most heads cost on neutral text: a choice that breaks everything lowers its target, too."""
    rows = []
    for results in all_results:
        neutral = [row for row in results.rows if row.task == NEUTRAL_TASK and row.selection != "none"]
        most = max((row.k for row in neutral), default=0)
        for concept, scale in dict.fromkeys((row.concept, row.scale) for row in neutral):
            found = {row.selection: row for row in neutral if (row.concept, row.scale, row.k) == (concept, scale, most)}
            random = found["random"]
            costs = [
                number(found[one].change, found[one].low, found[one].high) if one in found else "–"
                for one in ("somp", "logit_lens", "attribution")
            ]
            rows.append(
                (
                    results.recipe,
                    concept,
                    signed(scale),
                    str(most),
                    *costs,
                    number(random.change, random.q25, random.q75),
                )
            )
    return Table(
        title="What the edits cost elsewhere: change of the negative log-likelihood of neutral text, nats a token",
        header=(
            "recipe",
            "heads of",
            "α",
            "k",
            "SOMP [95 %]",
            "logit lens [95 %]",
            "attribution [95 %]",
            "random, median [quartiles]",
        ),
        rows=tuple(rows),
    )


def _places(all_results: Sequence[Results]) -> list[Table]:
    """SOMP's heads edited at all tokens, at the image's, at generated ones: one table a concept that was tried at several."""
    tables = []
    restricted = [results for results in all_results if _place(results) != ALL]
    for concept in dict.fromkeys(row.concept for results in restricted for row in results.rows):
        rows = [row for results in all_results for row in results.rows if row.concept == concept]
        found = {(row.task, row.metric, row.k, row.scale, row.selection, row.where): row for row in rows}
        places = list(dict.fromkeys(row.where for row in rows if row.selection == "somp"))
        lines = []
        for task, metric, k, scale in dict.fromkeys(key[:4] for key, row in found.items() if row.where != ALL):
            cells = []
            for where in places:
                own, drawn = (found.get((task, metric, k, scale, one, where)) for one in ("somp", "random"))
                cells.append("–" if own is None else number(effect(own), own.low, own.high))
                cells.append("–" if drawn is None else number(effect(drawn), drawn.q25, drawn.q75))
            if any(cell != "–" for cell in cells):
                lines.append((task, metric, str(k), signed(scale), *cells))
        header = [f"{where}: {kind}" for where in places for kind in ("SOMP", "random")]
        tables.append(
            Table(
                title=f"{concept}: SOMP's heads edited at all tokens and at chosen ones, what is left (or the change)",
                header=("task", "metric", "k", "α", *header),
                rows=tuple(lines),
            )
        )
    return tables


def _place(results: Results) -> str:
    return str((results.about.get("recipe", {}).get("edit") or {}).get("where", ALL))


def _in_words(one: Comparison) -> str:
    other = SELECTION_NAMES[one.against]
    spread = number(one.difference, one.low, one.high)
    return f"{one.concept}, {one.task}, {one.metric}, α = {signed(one.scale)}, k = {one.k}, against {other}: {spread}"


def section(recipe: Recipe, results: Results, out: Path) -> str:
    """One recipe: its figures and tables, or for named heads the best of them."""
    parts = [f"## {recipe.title}", f"`headpursuit evaluate {recipe.name}` · {recipe.paper}"]
    for figure in sorted((out / "figures").glob("*.png")):
        name = f"{recipe.name}-{figure.name}"
        shutil.copyfile(figure, IMAGES / name)
        parts.append(f"![{recipe.name}, {figure.stem}](images/results/{name})")
    tables = results_tables(results)
    if recipe.describe is not None:
        best = sorted(tables[0].rows, key=lambda row: -float(row[1].removesuffix(" %")))[:DESCRIBED_SHOWN]
        tables = [Table(f"{tables[0].title}: the {len(best)} best explained", tables[0].header, tuple(best))]
    elif any("transfer" in path.name for path in (out / "figures").iterdir()):
        tables = [table for table in tables if table.title.startswith(("Transfer", "Heads shared"))]
    body = "\n".join(table.to_markdown() for table in tables)
    heads = results.about.get("heads", {})
    chosen = [
        f"{name}: SOMP {', '.join(both['somp'])}; logit lens {', '.join(both['logit_lens'])}"
        for name, both in heads.items()
    ]
    if chosen:
        parts.append("Heads, best first. " + ". ".join(chosen) + ".")
    return "\n\n".join([*parts, f"<details><summary>Tables</summary>\n\n{body}\n</details>"])


if __name__ == "__main__":
    main()
