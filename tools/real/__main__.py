"""Measure on a real model and write docs/real-models.md from it: ``python -m tools.real MODEL --data FOLDER`` (``make real``).

MODEL is a checkpoint's folder or a GGUF file. FOLDER holds TinyStories as JSON lines (``tinystories*.jsonl``, field ``text``),
TriviaQA (``triviaqa*.json``) and RealToxicityPrompts (``realtoxicityprompts*.jsonl``), both in their official layout. Stories
give contexts in which a word of a concept comes next, one half of them to choose heads and the other to try the choice;
questions are the neutral text. The page has parts, each written from measurements that are kept. Every number is of this run.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from tools.parts import table as _table
from tools.parts import write_part
from tools.real import gguf, recipes, selection
from tools.real.data import read_questions, read_stories
from tools.selection import write_selection
from tqdm.auto import tqdm

import headpursuit as hp
from headpursuit.activations.measures import concept_log_odds, negative_log_likelihood
from headpursuit.concepts import resolve
from headpursuit.evaluation.intervals import interval, resampled_means
from headpursuit.exporting.llama_cpp import llama_cpp
from headpursuit.files import digest, read_sealed, write_sealed
from headpursuit.model.heads import Head
from headpursuit.model.identity import weights_fingerprint
from headpursuit.ranking.ranking import HeadRanking

PARTS = ("heads", "gguf", "recipes")
SELECTION = "selection"  # which has a page of its own
PAGE = Path(__file__).resolve().parents[2] / "docs" / "real-models.md"
WORDS = {
    "colours": "red green blue yellow orange purple pink brown black white grey gold",
    "animals": "dog cat bird fish rabbit bear lion mouse frog duck horse cow pig fox monkey elephant tiger bunny puppy kitten",
    "emotions": "happy sad angry scared excited proud afraid worried surprised glad lonely upset nervous mad",
    "family": "mom dad mother father brother sister grandma grandpa mommy daddy son daughter family uncle aunt",
}
CONCEPTS = tuple(hp.Concept(name, words=words.split()) for name, words in WORDS.items())
# Characters of a story before the word that comes next; a context begins with a sentence where it can.
_BEFORE = 200
_CAPTURED_CHARACTERS = 400
METHODS = ("calibrated", "somp", "logit_lens", "attribution")
KS = (1, 3)
# Concepts for which each head is tried alone.
ALONE = ("colours", "animals")
SUPPRESS, ENHANCE = -1.0, 3.0
DRAWS = 10


@dataclass(frozen=True)
class Texts:
    """What is measured on.

    Attributes:
        captured: beginnings of stories, whose heads are captured.
        selection: contexts of each concept to choose heads by.
        test: other stories' contexts, to try the choice on.
        neutral: questions, for choosing and for trying.
    """

    captured: Sequence[hp.Sample]
    selection: Mapping[str, Sequence[hp.Sample]]
    test: Mapping[str, Sequence[hp.Sample]]
    neutral: tuple[Sequence[hp.Sample], Sequence[hp.Sample]]


class Bench:
    """A model, its texts, and what edits do to them; each edit's numbers are kept in a file as they are measured.

    Contexts run one by one: in a batch of unlike lengths, logits over a large vocabulary are made where nothing is asked.
    """

    def __init__(self, model: hp.HeadModel, texts: Texts, folder: Path) -> None:
        self.model, self.texts, self._folder = model, texts, folder
        size = len(model.hf.get_output_embeddings().weight)
        self.tokens = {one.name: resolve(one, model.tokenizer, vocabulary_size=size).token_ids for one in CONCEPTS}
        self._about = {"model": weights_fingerprint(model.hf), "texts": digest([one.text for one in self._all()])}

    def log_odds(self, name: str, edit: hp.HeadEdit | None) -> np.ndarray:
        """Log-odds of the concept in each of its test contexts, in nats."""
        return self._kept(
            name, edit, lambda: concept_log_odds(self.model, self.texts.test[name], tokens=self.tokens[name], batch_size=1)
        )

    def neutral(self, edit: hp.HeadEdit | None) -> np.ndarray:
        """Nats a token on each neutral test text."""
        return self._kept("neutral", edit, lambda: negative_log_likelihood(self.model, self.texts.neutral[1], batch_size=1))

    def _all(self) -> list[hp.Sample]:
        return [*(one for part in self.texts.test.values() for one in part), *self.texts.neutral[1]]

    def _kept(self, name: str, edit: hp.HeadEdit | None, measure) -> np.ndarray:
        about = {**self._about, "of": name, "edit": None if edit is None else edit.to_dict()}
        path = self._folder / "cells" / f"{digest(about)}.json"
        if not path.is_file():
            if edit is None:
                values = measure()
            else:
                with edit.applied(self.model):
                    values = measure()
            write_sealed(path, {"format": 1, "about": about, "values": [float(one) for one in values]})
        return np.array(read_sealed(path, format=1, what="measurement", remedy="delete it")["values"])


def main() -> None:
    """Measure what has not been measured yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint's folder, a GGUF file, or a name on the Hub")
    parser.add_argument("--data", type=Path, required=True, help="folder with the texts")
    parser.add_argument("--out", type=Path, default=Path("headpursuit-real"), help="where measurements are kept")
    parser.add_argument("--name", help="what the page calls the model")
    parser.add_argument("--contexts", type=int, default=24, help="test contexts of a concept; as many to choose heads by")
    parser.add_argument("--draws", type=int, default=200, help="random turns, and random token sets")
    parser.add_argument("--fusion", action="store_true", help="order heads by fusion, too (minutes a concept)")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, SELECTION), default=(*PARTS, SELECTION), help="these alone")
    parser.add_argument("--gguf", type=Path, help="a GGUF file of the model, where MODEL is none")
    parser.add_argument("--llama-cpp", type=Path, help="folder of packages that llama_cpp is in, if not installed here")
    options = parser.parse_args()
    began = time.perf_counter()
    name, images = options.name or Path(options.model).name, options.page.parent / "images" / "real"
    if "gguf" in options.parts:
        sys.path += [] if options.llama_cpp is None else [str(options.llama_cpp)]  # behind this environment's own packages
        source = options.gguf or (Path(options.model) if Path(options.model).is_file() else None)
        if source is None or llama_cpp() is None:
            print("GGUF is left out: " + ("no --gguf FILE" if source is None else "llama_cpp cannot be imported (--llama-cpp)"))
        else:
            found = gguf.measured(source, options.data, options.out)
            write_part(options.page, "gguf", gguf.section(*found, images, name=name), parts=PARTS)
    if SELECTION in options.parts:
        compared = selection.measured(options.model, options.data, options.out / SELECTION, count=options.contexts)
        write_selection(compared, "real", head=selection.head(name, compared))
    if not {"heads", "recipes"} & {*options.parts}:
        return
    loading = time.perf_counter()
    model = hp.load(options.model, device="cpu", dtype="float32")
    loaded = time.perf_counter() - loading
    if "recipes" in options.parts:
        results = recipes.measured(model, options.data, options.out / "recipes")
        write_part(options.page, "recipes", recipes.section(results, images), parts=PARTS)
    if "heads" not in options.parts:
        return
    texts = read_texts(options.data, count=options.contexts)
    bench = Bench(model, texts, options.out)
    acts = hp.capture(model, texts.captured, positions="mean", out=options.out / "capture")
    names = hp.describe(acts, dictionary="words+latin", significance=options.draws)
    singles = {head: hp.HeadEdit([head], scale=SUPPRESS) for head in model.anatomy.heads()}
    for edit in tqdm([None, *singles.values()], desc="single heads", unit="edit"):
        bench.neutral(edit)
        for concept in ALONE:
            bench.log_odds(concept, edit)
    methods = (*METHODS, "fusion") if options.fusion else METHODS
    rankings = {concept.name: rank(bench, acts, concept, methods, draws=options.draws, out=options.out) for concept in CONCEPTS}
    parts = [
        head(name, model, texts, loaded),
        correlations(bench, rankings, singles),
        *(trade_off(bench, rankings, scale) for scale in (SUPPRESS, ENHANCE)),
        of_names(names),
    ]
    write_part(options.page, "heads", "\n\n".join(parts), parts=PARTS)
    print(f"wrote {options.page} after {(time.perf_counter() - began) / 60:.0f} minutes")


def read_texts(folder: Path, *, count: int) -> Texts:
    """Contexts from stories, and questions, the first half to choose heads by and the second to try them."""
    stories, questions = read_stories(folder), read_questions(folder)
    half = len(stories) // 2
    found = [{one.name: contexts(part, one, count=count) for one in CONCEPTS} for part in (stories[:half], stories[half:])]
    plain = [hp.Sample(text=text, chat=False) for text in questions]
    return Texts(
        captured=[hp.Sample(text=text[:_CAPTURED_CHARACTERS], chat=False) for text in stories[:half]],
        selection=found[0],
        test=found[1],
        neutral=(plain[:count], plain[count : 2 * count]),
    )


def contexts(stories: Sequence[str], concept: hp.Concept, *, count: int) -> list[hp.Sample]:
    """Texts behind which a word of the concept comes next: one a story, so that no story counts twice."""
    words = re.compile(r"(?<= )(?:" + "|".join(concept.words) + r")\b")
    made = []
    for story in stories:
        for match in words.finditer(story, 40):
            before = story[max(0, match.start() - _BEFORE) : match.start()].rstrip()
            sentence = re.search(r"(?<=[.!?]) (?=[A-Z\"])", before[:-20])
            start = sentence.end() if sentence and match.start() > _BEFORE else 0
            made.append(hp.Sample(text=before[start:], target=match.group(), chat=False))
            break
    return made[:count]


def rank(
    bench: Bench, acts: hp.HeadActivations, concept: hp.Concept, methods: Sequence[str], *, draws: int, out: Path
) -> dict[str, HeadRanking]:
    """The heads of a concept by every method, kept on disk."""
    found = {}
    for method in methods:
        path = out / "rankings" / f"{concept.name}-{method}.json"
        if path.is_file():
            found[method] = HeadRanking.load(path)
            continue
        options = {
            "calibrated": {"acts": acts, "draws": draws},
            "somp": {"acts": acts, "draws": 0},
            "logit_lens": {"acts": acts},
            "fusion": {"neutral": bench.texts.neutral[0], "order": "effect_per_cost"},
        }.get(method, {})
        samples = bench.texts.selection[concept.name]
        if method in ("attribution", "fusion"):
            options["batch_size"] = 1
        found[method] = hp.select(bench.model, samples, concept, method=method, progress=False, **options)
        found[method].save(path)
    return found


def head(name: str, model: hp.HeadModel, texts: Texts, loaded: float) -> str:
    """What the numbers are of and how to get them again."""
    anatomy = model.anatomy
    counts = "; ".join(f"{one} {len(texts.selection[one])} and {len(texts.test[one])}" for one in texts.test)
    return "\n\n".join(
        [
            "# A real model",
            f"Written by `make real` (tools/real) from the run itself; do not edit. The model is {name}: "
            f"{len(anatomy.heads())} heads "
            f"in {anatomy.n_layers} layers, loaded in {loaded:.0f} s, float32 on a CPU.",
            f"Heads are captured on the beginnings of {len(texts.captured)} stories (mean of the tokens). A concept "
            f"is measured by the "
            "log-odds of its words in contexts from other stories, where one of them comes next (contexts to choose "
            "heads by and to "
            f"try them on: {counts}). The cost is the loss of likelihood on {len(texts.neutral[1])} questions of "
            f"TriviaQA, in nats a token. "
            "Intervals are of a paired bootstrap, 95 %.",
            "`calibrated` is what `headpursuit rank` does when nothing is said, `somp` the paper's score. What each method "
            "needs and costs is in docs/selection.md.",
        ]
    )


def correlations(bench: Bench, rankings: Mapping[str, Mapping[str, HeadRanking]], singles: Mapping[Head, hp.HeadEdit]) -> str:
    """Spearman correlation of every method's score with what each head does when it alone is turned around."""
    lines = {}
    for name in ALONE:
        of, before = rankings[name], bench.log_odds(name, None)
        effect = {one: float((before - bench.log_odds(name, edit)).mean()) for one, edit in singles.items()}
        cost = {one: float((bench.neutral(edit) - bench.neutral(None)).mean()) for one, edit in singles.items()}
        heads = list(singles)
        lines[name] = {
            **{
                method: f"{spearmanr([of[method].score(one) for one in heads], [effect[one] for one in heads]).statistic:.2f}"
                for method in of
            },
            "mean head": f"{np.mean(list(effect.values())):.2f} at {np.mean(list(cost.values())):.2f}",
            "best three": ", ".join(f"{one} {effect[one]:.1f}" for one in sorted(heads, key=lambda one: -effect[one])[:3]),
        }
    frame = pd.DataFrame(lines).T
    text = (
        "## What single heads do\n\nEach head alone is multiplied by −1. Spearman correlation of the scores with the "
        "fall of the concept's "
        "log-odds on test contexts, and what the mean head and the best three "
        "do, in nats."
    )
    return f"{text}\n\n{_table(frame, 'concept')}"


def trade_off(bench: Bench, rankings: Mapping[str, Mapping[str, HeadRanking]], scale: float) -> str:
    """Effect, cost and their ratio for the best heads of every method, beside random ones where they suppress."""
    sign, most = (-1 if scale < 1 else 1), KS[-1]
    before = bench.neutral(None)
    lines, said = [], []
    for name, of in rankings.items():
        base = bench.log_odds(name, None)
        for method, ranking in of.items():
            for k in KS if scale < 1 else (most,):
                edit = hp.HeadEdit(ranking.top(k), scale=scale)
                found = _effect(sign * (bench.log_odds(name, edit) - base), bench.neutral(edit) - before)
                which = ", ".join(map(str, ranking.top(k)))
                lines.append({"concept": name, "heads": method, "k": k, **found, "which": which})
        if scale > 1:
            continue
        drawn = hp.random_controls(of["calibrated"].top(most), bench.model, draws=DRAWS, seed=0)
        edits = [hp.HeadEdit(one, scale=scale) for one in drawn]
        effects = np.mean([sign * (bench.log_odds(name, edit) - base) for edit in edits], axis=0)
        costs = np.mean([bench.neutral(edit) - before for edit in edits], axis=0)
        which = f"mean of {DRAWS} draws, in the layers of `calibrated`"
        lines.append({"concept": name, "heads": "random", "k": most, **_effect(effects, costs), "which": which})
        per_nat = {line["heads"]: line["per nat"] for line in lines if line["concept"] == name and line["k"] == most}
        than = [
            f"{'more' if per_nat['calibrated'] > per_nat[other] else 'less'} than {told}"
            for other, told in (("somp", "the paper's score"), ("random", "random heads"))
        ]
        said.append(f"{name} {' and '.join(than)}, most by `{max(per_nat, key=per_nat.__getitem__)}`")
    title, moved = ("Suppressing", "fall") if scale < 1 else ("Enhancing", "rise")
    parts = [
        f"## {title}, scale {scale:g}",
        f"Nats by which the concept's log-odds {moved} on test contexts, the cost on neutral text, and the one for the other "
        "(— where the cost is below 0.02 nats).",
        _table(pd.DataFrame(lines).drop(columns=["per nat"]), None),
    ]
    if said:
        parts.append(f"Effect for cost of the default with {most} heads: {'; '.join(said)}.")
    return "\n\n".join(parts)


def _effect(effects: np.ndarray, costs: np.ndarray) -> dict[str, object]:
    drawn = resampled_means(effects[None])[:, 0]
    spread = resampled_means(costs[None], seed=1)[:, 0]
    mean, cost = float(effects.mean()), float(costs.mean())
    low, high = interval(drawn) or (mean, mean)
    cheapest, dearest = interval(spread) or (cost, cost)
    ratio = mean / max(cost, 0.02)
    return {
        "effect": f"{mean:.2f} ({low:.2f} to {high:.2f})",
        "cost": f"{cost:.2f} ({cheapest:.2f} to {dearest:.2f})",
        "effect for cost": f"{ratio:.1f}" if cost >= 0.02 else "—",
        "per nat": ratio,
    }


def of_names(names) -> str:
    """The heads that have a name."""
    named = [one for one in names if one.evidence is not None and one.evidence.q <= 0.05]
    rows = [
        {
            "head": one.head.name,
            "tokens": " ".join(f"`{token.strip()}`" for token in one.evidence.tokens[:5]),
            "q": f"{one.evidence.q:.1g}",
        }
        for one in sorted(named, key=lambda one: one.evidence.q)
    ]
    text = (
        f"## Names\n\n{len(named)} of {len(names)} heads have a name that random turns of what they write do not have "
        f"(q ≤ 0.05, whole words in "
        "Latin letters); the others are said to have none."
    )
    return f"{text}\n\n{_table(pd.DataFrame(rows), None)}"


if __name__ == "__main__":
    main()
