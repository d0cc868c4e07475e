"""Train the embedded demo model: a small LLaVA, from nothing, on what `headpursuit.demo` draws.

    python tools/train_demo.py [--out FOLDER] [--tower FOLDER] [--seed N]

Three quarters of an hour on two cores. As in LLaVA, the vision tower learns first, here below a decoder that is thrown
away, and rests while projector and decoder learn anew by next-token prediction of the answers. That is short on purpose:
copies of a function in further heads grow with training. No head is planted, supervised or treated unlike another.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

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
from headpursuit import demo
from headpursuit.demo import captions, continuations, digits, facts, scenes
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.prepare import Source, prepare
from headpursuit.evaluation.recipe import load_recipe

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
    steps: int = 800
    tower_steps: int = 4000
    vocabulary: int = 1280
    layers: int = 3
    heads: int = 17
    head_width: int = 24
    width: int = 136
    # Narrow, so that heads write words themselves and do not leave it to the layer behind them.
    mlp: int = 32
    # The decoder below which the tower learns needs to be good, not to be taken apart.
    tower_mlp: int = 256
    vision_layers: int = 4
    vision_width: int = 96
    learning_rate: float = 2e-3
    # Words that are this well known (nats) are not pushed further: margins that grow for ever are copied into ever more heads.
    known: float = 0.3
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
    """A batch: token ids and, where an answer is to be learned, labels, both ``(b, t)``; what it is about, or None.

    Pictures are pixels ``(b, 3, s, s)``, or patches ``(b, p, w)`` as the tower leaves them.
    """

    ids: Tensor
    labels: Tensor
    pictures: Tensor | None


@dataclass(frozen=True)
class Picture:
    """A drawn picture ``(s, s, 3)`` and how to write an answer about it."""

    pixels: np.ndarray
    questions: tuple[str, ...]
    answer: Callable[[random.Random], str]


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


def make_model(settings: Settings, *, vocabulary: int, mlp: int) -> LlavaForConditionalGeneration:
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
        intermediate_size=mlp,
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
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def _said(answer: str, _: random.Random) -> str:
    return answer


class Feed:
    """Draws training batches. Pictures are drawn once; questions and answers are written anew at every step."""

    def __init__(self, settings: Settings, tokenizer: PreTrainedTokenizerFast) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.rng = random.Random(settings.seed)
        self.pictures = {
            "shapes": self._scenes("shapes", settings.pool),
            "faces": self._scenes("face", settings.pool // 3),
            "digits": self._handwriting(times=8),
        }
        self.seen: dict[str, Tensor] = {}
        self.facts = {kind: facts.questions(kind, "train") for kind in KINDS}
        self.known: dict[str, list[int]] = {}

    def captions(self) -> Tokens:
        """Captions and digits: pixels, or patches once a tower has seen the pictures."""
        counts = {"shapes": self.settings.shapes, "faces": self.settings.faces, "digits": self.settings.digits}
        rows, parts = [], []
        for kind, count in counts.items():
            numbers = [self.rng.randrange(len(self.pictures[kind])) for _ in range(count)]
            drawn = [self.pictures[kind][number] for number in numbers]
            rows += [(self.rng.choice(picture.questions), picture.answer(self.rng)) for picture in drawn]
            parts.append(self.seen[kind][numbers].float() if self.seen else normalized(drawn))
        return self._tokens(rows, torch.cat(parts))

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

    def _scenes(self, kind: Literal["shapes", "face"], count: int) -> list[Picture]:
        drawn = (scenes.sample_scene(self.rng, "train", kind=kind) for _ in range(count))
        return [
            Picture(np.asarray(scenes.draw_scene(scene, self.rng)), captions.QUESTIONS, partial(captions.write_caption, scene))
            for scene in tqdm(drawn, f"draw {kind}", count)
        ]

    def _handwriting(self, *, times: int) -> list[Picture]:
        return [
            Picture(
                np.asarray(
                    digits.draw_digit(
                        index,
                        shift=(self.rng.uniform(-3, 3), self.rng.uniform(-3, 3)),
                        scale=self.rng.uniform(0.85, 1.12),
                        angle=self.rng.uniform(-10, 10),
                    )
                ),
                digits.QUESTIONS,
                partial(_said, digits.digit_label(index)),
            )
            for index in tqdm(digits.digit_indices("train") * times, desc="draw digits")
        ]

    def _tokens(self, rows: Sequence[tuple[str, str]], pictures: Tensor | None) -> Tokens:
        sequences = []
        for question, answer in rows:
            before, _, after = demo.chat_prompt(question, image=pictures is not None).partition(SPECIAL[IMAGE])
            pictured = [IMAGE] * N_PATCHES if pictures is not None else []
            sequences.append(([*self._ids(before), *pictured, *self._ids(after)], [*self._ids(f" {answer}"), EOS]))
        t = max(len(asked) + len(answer) for asked, answer in sequences)
        ids = torch.full((len(rows), t), PAD)
        labels = torch.full((len(rows), t), IGNORED)
        for row, (asked, answer) in enumerate(sequences):
            end = len(asked) + len(answer)
            ids[row, :end] = torch.tensor(asked + answer)
            labels[row, len(asked) : end] = torch.tensor(answer)
        return Tokens(ids, labels, pictures)

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.known[text]


def normalized(pictures: Sequence[Picture]) -> Tensor:
    """Pixels as the processor makes them, ``(b, 3, s, s)``."""
    return torch.from_numpy(np.stack([picture.pixels for picture in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1


def see(tower: nn.Module, feed: Feed) -> None:
    """Show a tower that no longer changes every picture once, and keep its patches in float16."""
    for kind, pictures in feed.pictures.items():
        chunks = range(0, len(pictures), 256)
        with torch.inference_mode():
            seen = [patches_of(tower, normalized(pictures[i : i + 256])) for i in tqdm(chunks, desc=f"see {kind}")]
        feed.seen[kind] = torch.cat(seen).half()


def patches_of(tower: nn.Module, pixels: Tensor) -> Tensor:
    """What the decoder is shown of pictures: the last layer's patches, ``(b, p, w)``."""
    return tower(pixels).last_hidden_state[:, 1:]


@dataclass(frozen=True)
class Loss:
    """What is minimised, and the mean cross-entropy of the answers' tokens within it."""

    total: Tensor
    cross_entropy: float


def loss_of(model: LlavaForConditionalGeneration, batch: Tokens, *, known: float) -> Loss:
    """Cross-entropy of the answers' tokens; those that cost at most ``known`` nats count nothing."""
    decoder = model.model.language_model
    embedded = decoder.embed_tokens(batch.ids)
    if batch.pictures is not None:
        raw = batch.pictures.ndim == 4
        patches = patches_of(model.model.vision_tower, batch.pictures) if raw else batch.pictures
        projected = model.model.multi_modal_projector(patches)
        embedded = embedded.masked_scatter((batch.ids == IMAGE)[..., None], projected)
    hidden = decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
    learned = nn.functional.pad(batch.labels[:, 1:] != IGNORED, (0, 1))
    # Only the positions that are learned from go through the unembedding: it is the largest product of the model.
    target = batch.labels[:, 1:][learned[:, :-1]]
    each = nn.functional.cross_entropy(model.lm_head(hidden[learned]), target, reduction="none")
    return Loss((each * (each > known)).mean(), each.mean().item())


def train(
    settings: Settings, model: LlavaForConditionalGeneration, feed: Feed, *, steps: int, known: float, name: str
) -> list[dict[str, float]]:
    """Minimise the losses of pictures and of texts together; returns the log, one entry every hundred steps."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # No weight decay: it is cheapest when a function is spread over many heads.
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, pct_start=0.06, final_div_factor=100
    )
    model.train()
    log, start = [], time.monotonic()
    bar = tqdm(range(steps), desc=name, mininterval=5)
    for step in bar:
        pictures = loss_of(model, feed.captions(), known=known)
        texts = loss_of(model, feed.texts(), known=known)
        (pictures.total + texts.total).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps - 1:
            entry = {
                "step": step,
                "pictures": pictures.cross_entropy,
                "texts": texts.cross_entropy,
                "minutes": (time.monotonic() - start) / 60,
            }
            log.append({key: round(value, 4) for key, value in entry.items()})
            bar.set_postfix(pictures=f"{pictures.cross_entropy:.3f}", texts=f"{texts.cross_entropy:.3f}")
    model.eval()
    return log


def learned_tower(settings: Settings, feed: Feed, *, vocabulary: int) -> nn.Module:
    """A vision tower, trained below a decoder that is thrown away."""
    model = make_model(settings, vocabulary=vocabulary, mlp=settings.tower_mlp)
    for block in (*model.model.language_model.layers, *model.model.vision_tower.encoder.layers):
        block.compile(dynamic=True)
    train(settings, model, feed, steps=settings.tower_steps, known=0.0, name="train tower")
    return model.model.vision_tower


def measure(folder: Path) -> dict[str, tuple[float, int]]:
    """Held-out figures of the saved model: value and sample count."""
    recipes = [prepare(load_recipe(name), Source()) for name in DEMO_RECIPES]
    tasks = {name: task for recipe in recipes for name, task in recipe.tasks.items()}
    cells = Cells(hp.load(folder, device="cpu"), tasks, seed=0)
    wanted = {
        "handwritten digits, accuracy": ("classification", "accuracy"),
        "countries of capitals, accuracy": ("country questions", "exact match"),
        "other questions, accuracy": ("other questions", "exact match"),
        "captions, true mentions each": ("captioning", "true mentions"),
        "captions, CIDEr-D": ("captioning", "CIDEr"),
        "endings that the grammar could have written": ("continuation", "well-formed"),
    }
    return {
        name: (cells.value(tasks[task].metric(metric), None), len(tasks[task].samples))
        for name, (task, metric) in wanted.items()
    }


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

By `tools/train_demo.py`, seed {settings.seed}, from random initialisation, by next-token prediction of the answers. First the
vision tower, {settings.tower_steps} steps below a decoder that is thrown away (half an hour on two cores). Then projector and
decoder anew, the tower at rest: {settings.steps} steps of {settings.shapes + settings.faces + settings.digits} pictures and
{settings.facts + settings.continuations} texts, {last["minutes"]:.0f} minutes. Last losses: {last["pictures"]:.3f} nats a token
on pictures, {last["texts"]:.3f} on texts.

No head was planted, supervised or treated unlike another. Two choices keep functions in few heads: the decoder's training is
short, and words known to within {settings.known} nats are not pushed further (so probabilities are less sharp than they could
be, and losses a little higher). A large model has no such rule: its heads share their work more.

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


def train_demo(settings: Settings, out: Path, *, tower: Path | None = None) -> None:
    """Train a demo model and write it, with its card, as an ordinary Hugging Face folder.

    Args:
        settings: what it depends on.
        out: the folder.
        tower: a model whose vision tower is taken instead of training one.
    """
    tokenizer = make_tokenizer(settings)
    feed = Feed(settings, tokenizer)
    torch.manual_seed(settings.seed)
    if tower is None:
        trained = learned_tower(settings, feed, vocabulary=len(tokenizer))
    else:
        trained = LlavaForConditionalGeneration.from_pretrained(tower).model.vision_tower
    feed.rng.seed(settings.seed + 1)
    torch.manual_seed(settings.seed)
    model = make_model(settings, vocabulary=len(tokenizer), mlp=settings.mlp)
    model.model.vision_tower.load_state_dict(trained.state_dict())
    model.model.vision_tower.requires_grad_(False)
    see(model.model.vision_tower, feed)
    log = train(settings, model, feed, steps=settings.steps, known=settings.known, name="train")
    model.save_pretrained(out)
    make_processor(tokenizer).save_pretrained(out)
    write_card(out, settings, log, measure(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=demo.demo_path(), help="folder to write the model to")
    parser.add_argument("--tower", type=Path, help="take the vision tower of this model instead of training one")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    args = parser.parse_args()
    train_demo(Settings(seed=args.seed), args.out, tower=args.tower)


if __name__ == "__main__":
    main()
