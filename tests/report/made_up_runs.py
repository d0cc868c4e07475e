"""Made-up runs of several shapes, drawn from fixed seeds."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from headpursuit.report import ConceptSection, DescribedHead, Example, RunReport, Verdict

COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "black", "white", "pink", "brown"]
SENTIMENTS = ["happy", "sad", "cheerful", "gloomy", "angry", "calm", "smiling", "surprised"]
QUANTITY = ["two", "three", "four", "several", "many", "pair", "single"]
COUNTRIES = ["France", "Italy", "Japan", "Kenya", "Peru", "Norway", "Turkey", "Chad"]
RUDE = ["idiot", "fool", "stupid", "clown", "jerk"]
DIGITS = list("0123456789")
RGB = {"red": (206, 60, 50), "blue": (60, 100, 190), "green": (70, 140, 80), "yellow": (235, 190, 60)}


def scene(seed: int, *, size: int = 64) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(int(c) for c in rng.integers(200, 245, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        x, y = (int(v) for v in rng.integers(4, size - 28, 2))
        colour = list(RGB.values())[int(rng.integers(len(RGB)))]
        draw.ellipse((x, y, x + 22, y + 22), fill=colour, outline=(40, 40, 40))
        draw.ellipse((x + 6, y + 7, x + 8, y + 9), fill=(20, 20, 20))
        draw.ellipse((x + 14, y + 7, x + 16, y + 9), fill=(20, 20, 20))
        draw.arc((x + 6, y + 9, x + 16, y + 17), 20, 160, fill=(20, 20, 20))
    return image


def scores(layers: int, heads: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.2, 0.02, (layers, heads))
    for _ in range(3):
        values[rng.integers(layers // 2, layers), rng.integers(heads)] = rng.uniform(0.3, 0.7)
    return values


def best(values: np.ndarray, k: int, words: list[str]) -> list[DescribedHead]:
    order = np.argsort(-values.ravel())[:k]
    return [
        DescribedHead(
            f"L{index // values.shape[1]}.H{index % values.shape[1]}",
            tokens=[" " + words[(i + j) % len(words)] for j in range(5)],
            explained_variance=0.61 * 0.85**i,
            score=float(values.ravel()[index]),
        )
        for i, index in enumerate(order)
    ]


def row(task, concept, selection, k, scale, metric, normalized, *, unedited=0.93, q=None, n=256, seed=0):
    return {
        "task": task,
        "concept": concept,
        "selection": selection,
        "k": k,
        "scale": scale,
        "metric": metric,
        "value": unedited * normalized,
        "normalized": normalized,
        "q25": None if q is None else q[0],
        "q75": None if q is None else q[1],
        "n": n,
        "seed": seed,
    }


def captioning_rows(concept, k, suppressed, enhanced, *, ks=()):
    target, others = f"{concept}_per_caption", ("other_attributes", "caption_quality")
    rows = [row("captioning", concept, "none", 0, 1.0, target, 1.0)]
    rows += [row("captioning", concept, "none", 0, 1.0, other, 1.0, unedited=0.88) for other in others]
    for scale, found in ((-1.0, suppressed), (5.0, enhanced)):
        if found is None:
            continue
        for kk in (*ks, k):
            rows.append(row("captioning", concept, "somp", kk, scale, target, found ** (kk / k)))
            rows.append(row("captioning", concept, "logit_lens", kk, scale, target, (1 + found) / 2))
            rows.append(row("captioning", concept, "random", kk, scale, target, 1.0, q=(0.97, 1.04)))
        for other, kept in zip(others, (0.97, 0.94), strict=True):
            rows.append(row("captioning", concept, "somp", k, scale, other, kept, unedited=0.88))
            rows.append(row("captioning", concept, "logit_lens", k, scale, other, 0.91, unedited=0.88))
            rows.append(row("captioning", concept, "random", k, scale, other, 0.99, unedited=0.88, q=(0.95, 1.0)))
    return rows


def captioning(concept, words, seed, *, layers=6, heads=8, k=2, suppressed=0.04, enhanced=1.62, verdict=True, ks=()):
    values = scores(layers, heads, seed)
    return ConceptSection(
        name=concept,
        words=[" " + word for word in words],
        method="somp",
        positions="image",
        scores=values,
        logit_lens_scores=scores(layers, heads, seed + 50) - 0.05,
        heads=best(values, k, words),
        rows=captioning_rows(concept, k, suppressed, enhanced, ks=ks),
        examples=[
            Example(
                "Describe the image in one sentence.",
                f"Two {words[0]} circles and a {words[1]} square on a pale ground.",
                "Two circles and a square on a pale ground.",
                image=scene(seed * 10 + i),
                enhanced=f"A {words[0]} {words[1]} circle, {words[2]} and {words[3]}, on a pale ground.",
                reference=f"two {words[0]} circles and a {words[1]} square",
            )
            for i in range(4)
        ],
        verdict=Verdict(
            f"{concept} at most 0.30 of the unedited count, all else at least 0.90",
            reached=verdict,
            reason=None if verdict else "The best reached was 0.41 at 3 heads; with more heads the captions break.",
        ),
    )


OTHER_TASK = "other_questions"


def answering(task, concept, words, seed, metric, other, examples, *, k=2, suppressed=0.11):
    values = scores(6, 8, seed)
    rows = [
        row(task, concept, "none", 0, 1.0, metric, 1.0, n=64),
        row(task, concept, "none", 0, 1.0, other, 1.0, n=200),
    ]
    rows += [
        row(task, concept, "somp", k, -1.0, metric, suppressed, n=64),
        row(task, concept, "logit_lens", k, -1.0, metric, 0.72, n=64),
        row(task, concept, "random", k, -1.0, metric, 1.0, q=(0.94, 1.0), n=64),
        row(OTHER_TASK, concept, "somp", k, -1.0, other, 0.98, n=200),
        row(OTHER_TASK, concept, "random", k, -1.0, other, 1.0, q=(0.99, 1.0), n=200),
    ]
    return ConceptSection(
        name=concept,
        words=words,
        method="somp",
        positions="last",
        scores=values,
        logit_lens_scores=scores(6, 8, seed + 50),
        heads=best(values, k, words),
        rows=rows,
        examples=examples,
        verdict=Verdict(f"{metric.replace('_', ' ')} at most 0.30 of the unedited one", reached=True),
    )


def demo_like() -> RunReport:
    return RunReport(
        title="What the heads of the demo model do",
        subtitle="Six concepts: the heads that write them were found by pursuit, named, suppressed and enhanced, "
        "each beside the logit lens and ten random head sets.",
        model="demo",
        architecture="LlavaForConditionalGeneration",
        date="21 November 2026",
        versions={"headpursuit": "0.1.0", "transformers": "5.23.0", "torch": "2.9.1"},
        control_draws=10,
        command="headpursuit demo --out demo-report",
        concepts=[
            captioning("colours", COLOURS, 1, ks=(1,)),
            captioning("sentiments", SENTIMENTS, 2, suppressed=0.41, verdict=False, k=3, enhanced=1.1),
            captioning("quantity", QUANTITY * 6, 3, suppressed=0.22, enhanced=2.44),
            answering(
                "classification",
                "digits",
                DIGITS,
                4,
                "accuracy",
                "accuracy",
                [
                    Example("What digit is this?", "7", "1", image=scene(70 + i).resize((8, 8)), reference="7")
                    for i in range(3)
                ],
            ),
            answering(
                "question_answering",
                "countries",
                COUNTRIES,
                5,
                "f1_country_answers",
                "f1_other_answers",
                [
                    Example("Paris is the capital of which country?", "France", "the old town", reference="France"),
                    Example("What is the capital of Peru?", "Lima", "Lima", reference="Lima"),
                ],
            ),
            answering(
                "continuation",
                "rude",
                RUDE,
                6,
                "rude_words",
                "fluency",
                [Example("He looked at me and said:", "you stupid idiot, go away.", "you are late, my friend.")],
            ),
        ],
        described=[
            DescribedHead("L3.H1", [" red", " blue", " green", " yellow", " pink"], 0.62),
            DescribedHead("L4.H6", [" France", " Italy", " Japan", " Kenya", "\n"], 0.48),
            DescribedHead("L5.H0", [" seven", "7", " 3", " digit", " nine"], 0.39),
        ],
        notes=[
            "The demo model is small and was trained on drawn scenes; what holds for it need not hold for a large model.",
            "Counts are of words in greedy captions of held-out images.",
        ],
    )


def bare() -> RunReport:
    """Only a map: no examples, no controls, no verdict."""
    values = scores(2, 3, 0)
    values[0, 0] = np.nan
    section = ConceptSection("months", ["May"], "somp", "mean", values, heads=best(np.nan_to_num(values), 1, ["May"]))
    return RunReport("Bare", "", "gpt2", "GPT2LMHeadModel", concepts=[section])


def empty() -> RunReport:
    return RunReport("Empty", "", "gpt2", "GPT2LMHeadModel")


def large(layers: int = 32, heads: int = 32) -> RunReport:
    concepts = [
        captioning(name, words, seed, layers=layers, heads=heads, k=16, ks=(4, 8), enhanced=4.57)
        for seed, (name, words) in enumerate((("colours", COLOURS), ("sentiments", SENTIMENTS)), start=11)
    ]
    return RunReport(
        "A large model",
        "Thirty-two layers of thirty-two heads.",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "MistralForCausalLM",
        concepts=concepts,
        control_draws=10,
    )


RUNS = {"demo": demo_like, "bare": bare, "empty": empty, "large": large}
