"""Train the embedded demo model: a small LLaVA, from nothing, on what `headpursuit.model.demo` draws.

    python tools/train_demo.py [--out FOLDER] [--steps N] [--seed N]

Under an hour on two cores. All weights are learned together by next-token prediction of the answers; no head is planted,
supervised or treated unlike another.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import headpursuit as hp
from headpursuit.evaluation.demo import CAPTION, CONTINUATION, COUNTRIES, DIGITS, FACTS, demo_tasks
from headpursuit.evaluation.protocol import Bench, Measure
from headpursuit.model import demo
from headpursuit.model.demo import captions, continuations, digits, facts, scenes

PAD, BOS, EOS, IMAGE = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
CONTEXT = 128
PATCH = 8
N_PATCHES = (scenes.IMAGE_SIZE // PATCH) ** 2
IGNORED = -100
KINDS = ("country", *facts.OTHER_KINDS)
# Says what demo.chat_prompt says.
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% else %} ASSISTANT: {{ message['content'] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Settings:
    """All that the weights depend on, beside the code and the versions."""

    seed: int = 0
    steps: int = 4000
    vocabulary: int = 1280
    layers: int = 3
    heads: int = 17
    head_width: int = 24
    width: int = 136
    mlp: int = 256
    vision_layers: int = 4
    vision_width: int = 96
    learning_rate: float = 2e-3
    # Drawn scenes that the words are written for anew at every step.
    pool: int = 20000
    # Samples of each task in one step.
    shapes: int = 24
    faces: int = 20
    digits: int = 16
    facts: int = 48
    continuations: int = 16


@dataclass(frozen=True)
class Tokens:
    """A batch: token ids and, where an answer is to be learned, labels, both ``(b, t)``; pixels ``(b, 3, s, s)`` or None."""

    ids: Tensor
    labels: Tensor
    pixels: Tensor | None


def make_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """Byte-level BPE with leading-space tokens, trained on the questions and answers of the training split."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    raw.train_from_iterator(_corpus(random.Random(settings.seed)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        extra_special_tokens={"image_token": SPECIAL[IMAGE]},
        padding_side="left",
        model_max_length=CONTEXT,
    )


def _corpus(rng: random.Random) -> list[str]:
    def line(question: str, answer: str) -> str:
        return f"{demo.chat_prompt(question)} {answer}"

    lines = []
    for _ in range(4000):
        scene = scenes.sample_scene(rng, "train", kind="face" if rng.random() < 0.4 else "shapes")
        lines.append(line(rng.choice(captions.QUESTIONS), captions.write_caption(scene, rng)))
        opening = continuations.sample_opening(rng, "train")
        lines.append(line(opening.text, continuations.write_ending(opening.tone, rng)))
    for kind in KINDS:
        lines += [line(question.text, question.answer) for question in facts.questions(kind, "train")] * 3
    return lines + [line(rng.choice(digits.QUESTIONS), str(number % 10)) for number in range(300)]


def make_model(settings: Settings, *, vocabulary: int) -> LlavaForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=settings.vision_width,
        intermediate_size=256,
        num_hidden_layers=settings.vision_layers,
        num_attention_heads=4,
        image_size=scenes.IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=settings.vision_width,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.width,
        intermediate_size=settings.mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.head_width,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        rms_norm_eps=1e-5,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=N_PATCHES,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    return model


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    size = scenes.IMAGE_SIZE
    images = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


class Feed:
    """Draws training batches. Images are drawn once, since drawing is slow; questions and answers anew at every step."""

    def __init__(self, settings: Settings, tokenizer: PreTrainedTokenizerFast) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.rng = random.Random(settings.seed)
        self.scenes = {"shapes": self._draw("shapes", settings.pool), "face": self._draw("face", settings.pool // 3)}
        self.digits = [
            (np.asarray(self._handwriting(index)), digits.digit_label(index))
            for index in tqdm(digits.digit_indices("train") * 8, desc="draw digits")
        ]
        self.facts = {kind: facts.questions(kind, "train") for kind in KINDS}
        self.known: dict[str, list[int]] = {}

    def pictures(self) -> Tokens:
        """Captions and digits."""
        rows, images = [], []
        for kind, count in (("shapes", self.settings.shapes), ("face", self.settings.faces)):
            for scene, pixels in self.rng.choices(self.scenes[kind], k=count):
                rows.append((self.rng.choice(captions.QUESTIONS), captions.write_caption(scene, self.rng)))
                images.append(pixels)
        for pixels, label in self.rng.choices(self.digits, k=self.settings.digits):
            rows.append((self.rng.choice(digits.QUESTIONS), label))
            images.append(pixels)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return self._tokens(rows, stacked.float().div_(127.5).sub_(1))

    def texts(self) -> Tokens:
        """Questions without a picture and sentences to go on with."""
        rows = []
        weights = [math.sqrt(len(self.facts[kind])) for kind in KINDS]
        for kind in self.rng.choices(KINDS, weights=weights, k=self.settings.facts):
            question = self.rng.choice(self.facts[kind])
            rows.append((question.text, question.answer))
        for _ in range(self.settings.continuations):
            opening = continuations.sample_opening(self.rng, "train")
            asked = self.rng.choice(continuations.QUESTIONS).format(opening.text)
            rows.append((asked, continuations.write_ending(opening.tone, self.rng)))
        return self._tokens(rows, None)

    def _draw(self, kind, count: int) -> list[tuple[scenes.Scene, np.ndarray]]:
        drawn = (scenes.sample_scene(self.rng, "train", kind=kind) for _ in range(count))
        return [(scene, np.asarray(scenes.draw_scene(scene, self.rng))) for scene in tqdm(drawn, f"draw {kind}", count)]

    def _handwriting(self, index: int):
        return digits.draw_digit(
            index,
            shift=(self.rng.uniform(-3, 3), self.rng.uniform(-3, 3)),
            scale=self.rng.uniform(0.85, 1.12),
            angle=self.rng.uniform(-10, 10),
        )

    def _tokens(self, rows: Sequence[tuple[str, str]], pixels: Tensor | None) -> Tokens:
        sequences = []
        for question, answer in rows:
            before, _, after = demo.chat_prompt(question, image=pixels is not None).partition(SPECIAL[IMAGE])
            patches = [IMAGE] * N_PATCHES if pixels is not None else []
            sequences.append(([*self._ids(before), *patches, *self._ids(after)], [*self._ids(f" {answer}"), EOS]))
        t = max(len(asked) + len(answer) for asked, answer in sequences)
        ids = torch.full((len(rows), t), PAD)
        labels = torch.full((len(rows), t), IGNORED)
        for row, (asked, answer) in enumerate(sequences):
            end = len(asked) + len(answer)
            ids[row, :end] = torch.tensor(asked + answer)
            labels[row, len(asked) : end] = torch.tensor(answer)
        return Tokens(ids, labels, pixels)

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.known[text]


def loss_of(model: LlavaForConditionalGeneration, batch: Tokens) -> Tensor:
    """Mean cross-entropy of the answers' tokens."""
    hidden = model.model(input_ids=batch.ids, pixel_values=batch.pixels, use_cache=False).last_hidden_state
    learned = batch.labels[:, 1:] != IGNORED
    # Only the positions that are learned from go through the unembedding: it is the largest product of the model.
    return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][learned]), batch.labels[:, 1:][learned])


def train(settings: Settings, model: LlavaForConditionalGeneration, feed: Feed) -> list[dict[str, float]]:
    """Minimise both losses together; returns the log, one entry every hundred steps."""
    for block in (*model.model.language_model.layers, *model.model.vision_tower.encoder.layers):
        block.compile(dynamic=True)
    # No weight decay: it is cheapest when a function is spread over many heads.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=settings.steps, pct_start=0.06, final_div_factor=100
    )
    model.train()
    log, start = [], time.monotonic()
    bar = tqdm(range(settings.steps), desc="train", mininterval=5)
    for step in bar:
        pictures, texts = loss_of(model, feed.pictures()), loss_of(model, feed.texts())
        (pictures + texts).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == settings.steps - 1:
            entry = {
                "step": step,
                "pictures": pictures.item(),
                "texts": texts.item(),
                "minutes": (time.monotonic() - start) / 60,
            }
            log.append({name: round(value, 4) for name, value in entry.items()})
            bar.set_postfix(pictures=f"{entry['pictures']:.3f}", texts=f"{entry['texts']:.3f}")
    model.eval()
    return log


def measure(folder: Path) -> dict[str, tuple[float, int]]:
    """Held-out figures of the saved model: value and sample count."""
    bench = Bench(hp.load(folder, device="cpu"), demo_tasks("test"), seed=0)
    wanted = {
        "handwritten digits, accuracy": Measure(DIGITS, "accuracy"),
        "countries of capitals, accuracy": Measure(COUNTRIES, "accuracy"),
        "other questions, accuracy": Measure(FACTS, "accuracy"),
        "captions (sampled), true mentions each": Measure(CAPTION, "true mentions"),
        "captions (sampled), CIDEr-D": Measure(CAPTION, "CIDEr"),
        "endings (sampled) that the grammar could have written": Measure(CONTINUATION, "natural endings"),
    }
    return {name: (bench.value(one, None), bench.size(one)) for name, one in wanted.items()}


def write_card(
    folder: Path, settings: Settings, log: Sequence[dict[str, float]], figures: dict[str, tuple[float, int]]
) -> None:
    table = "\n".join(f"| {name} | {value:.3f} | {n} |" for name, (value, n) in figures.items())
    last = log[-1]
    (folder / "README.md").write_text(
        f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# The demo model of headpursuit

A LLaVA-architecture model small enough to come with the package: a CLIP-type vision tower of {settings.vision_layers} layers
and a Llama-type decoder of {settings.layers} layers × {settings.heads} heads of width {settings.head_width}
(d = {settings.width}), in float32. It exists to show, on a trained model and in minutes, how attention heads are found,
named and edited. It is good for nothing else.

## Data

- **Captions** of drawn scenes of {scenes.IMAGE_SIZE} × {scenes.IMAGE_SIZE} pixels: equal shapes, or one large face. Count,
  size, colour, mood and background are each mentioned only sometimes, and never where the picture does not show them (pencil
  grey, a head from behind, a crowd). Combinations of attributes are held out.
- **Handwritten digits**: scikit-learn's `load_digits` (UCI), split by image.
- **Facts**: capitals, countries, continents, opposites, months and weekdays. Facts are learned; the (subject, phrasing)
  pairs asked at test are not.
- **Endings** of sentences, kind or mildly rude as their openings suggest. Openings are held out.

## Training

Next-token prediction of the answers, all weights together, from random initialisation, by `tools/train_demo.py` with seed
{settings.seed}: {settings.steps} steps of {settings.shapes + settings.faces + settings.digits} pictures and
{settings.facts + settings.continuations} texts, {last["minutes"]:.0f} minutes on two cores. Last losses:
{last["pictures"]:.3f} nats a token on pictures, {last["texts"]:.3f} on texts. No head was planted, supervised or treated
unlike another.

## Held-out figures

| | value | n |
|---|---|---|
{table}

## Limits

It knows a few hundred words, nine colours and some hundred countries, and answers nonsense to anything else. The rude words
are mild and only there to be suppressed. Bit-identical retraining is not promised across machines: sums are ordered
differently.
""",
        encoding="utf-8",
    )
    training = {"settings": asdict(settings), "log": list(log)}
    (folder / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=demo.demo_path(), help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    args = parser.parse_args()
    settings = Settings(seed=args.seed, steps=args.steps)
    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer(settings)
    model = make_model(settings, vocabulary=len(tokenizer))
    log = train(settings, model, Feed(settings, tokenizer))
    model.save_pretrained(args.out)
    make_processor(tokenizer).save_pretrained(args.out)
    write_card(args.out, settings, log, measure(args.out))


if __name__ == "__main__":
    main()
