"""Train the embedded demo model: a small LLaVA, from nothing, on what `headpursuit.demo` draws.

    python tools/train_demo.py [--out FOLDER] [--tower FOLDER] [--seed N] [--device cuda]
    python tools/demo_card.py FOLDER

As in LLaVA, the vision tower learns first, here below a decoder that is thrown away, and rests while projector and decoder
learn anew by next-token prediction of the answers. No head is planted, supervised or treated unlike another. The second
command measures what came out and writes its card.
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

from headpursuit import demo
from headpursuit.demo import captions, continuations, digits, facts, scenes

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
    steps: int = 2000
    tower_steps: int = 4000
    # Large enough for every country's name to be a token of its own, but for those of two words.
    vocabulary: int = 2048
    layers: int = 6
    heads: int = 20
    head_width: int = 16
    width: int = 120
    mlp: int = 64
    vision_layers: int = 4
    vision_width: int = 96
    learning_rate: float = 1.5e-3
    # Drawn scenes that the words are written for anew at every step.
    pool: int = 20000
    # Samples of each task in one step.
    shapes: int = 12
    faces: int = 10
    digits: int = 10
    facts: int = 24
    continuations: int = 8


@dataclass(frozen=True)
class Tokens:
    """A batch: token ids and, where an answer is to be learned, labels, both ``(b, t)``; what it is about, or None.

    Pictures are pixels ``(b, 3, s, s)``.
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
        min_frequency=2,
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
        self.facts = {kind: facts.questions(kind, "train") for kind in KINDS}
        self.known: dict[str, list[int]] = {}

    def captions(self) -> Tokens:
        """Captions and digits."""
        counts = {"shapes": self.settings.shapes, "faces": self.settings.faces, "digits": self.settings.digits}
        rows, parts = [], []
        for kind, count in counts.items():
            numbers = [self.rng.randrange(len(self.pictures[kind])) for _ in range(count)]
            drawn = [self.pictures[kind][number] for number in numbers]
            rows += [(self.rng.choice(picture.questions), picture.answer(self.rng)) for picture in drawn]
            parts.append(normalized(drawn))
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


def loss_of(model: LlavaForConditionalGeneration, batch: Tokens) -> Tensor:
    """Mean cross-entropy of the answers' tokens, in nats."""
    decoder = model.model.language_model
    ids = batch.ids.to(model.device)
    embedded = decoder.embed_tokens(ids)
    if batch.pictures is not None:
        patches = model.model.vision_tower(batch.pictures.to(model.device)).last_hidden_state[:, 1:]
        projected = model.model.multi_modal_projector(patches).to(embedded.dtype)
        embedded = embedded.masked_scatter((ids == IMAGE)[..., None], projected)
    hidden = decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
    learned = nn.functional.pad(batch.labels[:, 1:] != IGNORED, (0, 1))
    # Only the positions that are learned from go through the unembedding: it is the largest product of the model.
    target = batch.labels[:, 1:][learned[:, :-1]]
    return nn.functional.cross_entropy(model.lm_head(hidden[learned.to(model.device)]), target.to(model.device))


def train(
    settings: Settings, model: LlavaForConditionalGeneration, feed: Feed, *, steps: int, name: str
) -> list[dict[str, float]]:
    """Minimise the losses of pictures and of texts together; returns the log, one entry every hundred steps."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Without weight decay: it made heads serve several concepts at once.
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, pct_start=0.06, final_div_factor=100
    )
    model.train()
    log, start = [], time.monotonic()
    bar = tqdm(range(steps), desc=name, mininterval=5)
    for step in bar:
        pictures, texts = loss_of(model, feed.captions()), loss_of(model, feed.texts())
        (pictures + texts).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps - 1:
            entry = {
                "step": step,
                "pictures": pictures.item(),
                "texts": texts.item(),
                "minutes": (time.monotonic() - start) / 60,
            }
            log.append({key: round(value, 4) for key, value in entry.items()})
            bar.set_postfix(pictures=f"{entry['pictures']:.3f}", texts=f"{entry['texts']:.3f}")
    model.eval()
    return log


def train_demo(settings: Settings, out: Path, *, tower: Path | None = None, device: str = "cpu") -> None:
    """Train a demo model and write it as an ordinary Hugging Face folder, with a log of its training.

    Args:
        settings: what it depends on.
        out: the folder.
        tower: a model whose vision tower is taken instead of training one.
        device: where to train.
    """
    tokenizer = make_tokenizer(settings)
    feed = Feed(settings, tokenizer)
    torch.manual_seed(settings.seed)
    if tower is None:
        first = make_model(settings, vocabulary=len(tokenizer)).to(device)
        train(settings, first, feed, steps=settings.tower_steps, name="train tower")
    else:
        first = LlavaForConditionalGeneration.from_pretrained(tower)
    feed.rng.seed(settings.seed + 1)
    torch.manual_seed(settings.seed)
    model = make_model(settings, vocabulary=len(tokenizer)).to(device)
    model.model.vision_tower.load_state_dict(first.model.vision_tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    log = train(settings, model, feed, steps=settings.steps, name="train")
    model.save_pretrained(out)
    make_processor(tokenizer).save_pretrained(out)
    shown = {} if tower is None else {"tower": f"is that of {tower.name}"}
    training = {"settings": asdict(settings), **shown, "device": device_name(device), "log": log}
    (out / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")


def device_name(device: str) -> str:
    """What a model was trained on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cores = torch.get_num_threads()
    return "1 core" if cores == 1 else f"{cores} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=demo.demo_path(), help="folder to write the model to")
    parser.add_argument("--tower", type=Path, help="take the vision tower of this model instead of training one")
    parser.add_argument("--device", default="cpu", help="where to train, such as cuda")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    args = parser.parse_args()
    train_demo(Settings(seed=args.seed), args.out, tower=args.tower, device=args.device)


if __name__ == "__main__":
    main()
