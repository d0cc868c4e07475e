"""Toxicity of generated text by a text-classification model (Head Pursuit, section 4.2: a RoBERTa trained by ParaDetox)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from headpursuit.errors import HeadPursuitError

DEFAULT_CLASSIFIER = "s-nlp/roberta_toxicity_classifier"


@dataclass(frozen=True)
class ToxicityClassifier:
    """A text-classification pipeline and which of its labels is the toxic one; call it with texts.

    Attributes:
        name: Hub name, or folder.
        revision: the commit that was loaded, or None for a folder.
        label: the label that means toxic.
        pipeline: the transformers pipeline.
        batch_size: texts that run together.
    """

    name: str
    revision: str | None
    label: str
    pipeline: Any = field(repr=False)
    batch_size: int

    def __str__(self) -> str:
        return f"{self.name}{f'@{self.revision}' if self.revision else ''}, label {self.label!r}"

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Probability of the toxic label, shape ``(n,)``; a blank text says nothing and gets 0.

        Texts longer than the classifier's context are cut at its end.
        """
        values = np.zeros(len(texts))
        said = [row for row, text in enumerate(texts) if text.strip()]
        if not said:
            return values
        found = self.pipeline([texts[row] for row in said], batch_size=self.batch_size, truncation=True, top_k=None)
        for row, scores in zip(said, found, strict=True):
            values[row] = next(score["score"] for score in scores if score["label"] == self.label)
        return values


def load_classifier(
    name: str | Path = DEFAULT_CLASSIFIER,
    *,
    revision: str | None = None,
    label: str | None = None,
    device: str | None = None,
    batch_size: int = 32,
    trust_remote_code: bool = False,
) -> ToxicityClassifier:
    """Load a toxicity classifier; only safetensors weights are read.

    Args:
        name: Hub name or local folder of a sequence-classification model.
        revision: commit of the Hub repository.
        label: the label that means toxic; found by its name (``toxic``), or the second of two, when left out.
        device: where it runs; the CPU when left out, which leaves an accelerator to the model that is examined.
        batch_size: texts that run together.
        trust_remote_code: run code that comes with the classifier. Off unless asked.

    Raises:
        HeadPursuitError: it cannot be loaded, or which label is the toxic one cannot be told.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    from headpursuit.model.load import opening

    own: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with opening(name, what="text classifier", revision=revision):
        hf, loading = AutoModelForSequenceClassification.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **own
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **own)
    if loading["missing_keys"]:
        raise HeadPursuitError(f"{name} lacks weights of {type(hf).__name__}, so it is no trained classifier; give one")
    # RoBERTa counts positions from 2; a tokenizer that states no limit would let longer texts run past the last one.
    places = getattr(hf.config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, places - 2)
    # An encoder's head reads the first token, which must not be padding; a tokenizer may have been saved padding on the left.
    tokenizer.padding_side = "right"
    return ToxicityClassifier(
        name=str(name),
        revision=getattr(hf.config, "_commit_hash", None),
        label=_toxic_label(hf.config.id2label, label, str(name)),
        pipeline=pipeline("text-classification", model=hf, tokenizer=tokenizer, device=device or "cpu"),
        batch_size=batch_size,
    )


def _toxic_label(id2label: Mapping[int, str], wanted: str | None, name: str) -> str:
    labels = [str(id2label[index]) for index in sorted(id2label)]
    if wanted is not None:
        if wanted in labels:
            return wanted
        raise HeadPursuitError(f"{name} has no label {wanted!r}; it has {', '.join(labels)}")
    named = [label for label in labels if label.lower() in {"toxic", "toxicity"}]
    if named:
        return named[0]
    if labels == ["LABEL_0", "LABEL_1"]:
        return labels[1]
    raise HeadPursuitError(f"{name} has the labels {', '.join(labels)}: say which one means toxic with label=")
