"""The data sets of the paper: which task each is for, where it lives, and how its files are read.

Revisions are the commits that others' published evaluations pin; where we found none, the Hub's newest is read and named.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headpursuit.data.classes import DIGITS, DTD, EUROSAT, GTSRB, RESISC45
from headpursuit.data.entries import Entry, Split
from headpursuit.data.flickr30k import caption_record, read_flickr30k
from headpursuit.data.folders import image_record, read_dtd, read_gtsrb, read_image_folder, read_svhn
from headpursuit.data.hub import HubSource
from headpursuit.data.idx import read_mnist
from headpursuit.data.records import Record
from headpursuit.data.toxicity_prompts import read_real_toxicity, read_tet, real_toxicity_record, tet_record
from headpursuit.data.trivia_qa import read_trivia_qa, trivia_record
from headpursuit.errors import HeadPursuitError, did_you_mean

TaskName = Literal["question answering", "toxic continuation", "classification", "captioning"]


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: what recipes call it.
        task: what it is for.
        read: from a file or folder and a split to entries.
        files: which local files are read, for messages and help.
        hub: where it is on the Hub, or None.
        noun: what an image of it shows, for the prompt of a classification.
        classes: all class names as a person writes them, in the data set's order; empty where it has none, or any.
        template: the prompt that it is meant to be asked with, or None for the task's own.
    """

    name: str
    task: TaskName
    read: Callable[[Path, Split], Iterable[Entry]] = field(repr=False)
    files: str
    hub: HubSource | None = None
    noun: str = "object"
    classes: tuple[str, ...] = ()
    template: str | None = None


def _trivia_row(row: Mapping[str, Any], *, where: str) -> Record:
    return trivia_record(row.get("question"), row.get("answer"), where=where)


def _image_row(row: Mapping[str, Any], *, classes: Sequence[str], where: str) -> Record:
    return image_record(row["image"], row["label"], classes=classes, where=where)


def _caption_row(row: Mapping[str, Any], *, where: str) -> Record:
    return caption_record(row["image"], row["caption"], where=where)


def _prompt(row: Mapping[str, Any]) -> str | None:
    return _stripped(row["prompt"]["text"])


def _challenging_prompt(row: Mapping[str, Any]) -> str | None:
    return _stripped(row["prompt"]["text"]) if row["challenging"] else None


def _stripped(text: Any) -> str:
    """A key that is the same in a file, whose reader strips texts; what is no text is refused when the record is made."""
    return text.strip() if isinstance(text, str) else ""


def _images(
    name: str,
    classes: tuple[str, ...],
    noun: str,
    read: Callable[[Path, Split], Iterable[Entry]] | None,
    files: str,
    repository: str,
    **hub: Any,
) -> Dataset:
    """A data set of images with a class each; without a reader of its own, one folder a class."""
    parts: dict[str, Literal["selection", "test", "other"]] = {"train": "selection", "test": "test"}
    if "validation" in hub:
        parts[hub.pop("validation")] = "other"
    return Dataset(
        name=name,
        task="classification",
        read=read or partial(read_image_folder, classes=classes),
        files=files,
        hub=HubSource(repository, parts, partial(_image_row, classes=classes), **hub),
        noun=noun,
        classes=classes,
    )


_RTP_FILES = "prompts.jsonl of RealToxicityPrompts, or its folder"
_RTP = "allenai/real-toxicity-prompts"
_FOLDERS = "a folder of images with a folder for each class (in train/ and test/, if it is divided)"
_ALL = (
    Dataset(
        name="trivia-qa",
        task="question answering",
        read=read_trivia_qa,
        files="the folder qa of the official archive, or one of its *-train.json and *-dev.json",
        hub=HubSource(
            "mandarjoshi/trivia_qa",
            {"train": "selection", "validation": "test"},
            _trivia_row,
            config="rc.nocontext",
            revision="0f7faf33a3908546c6fd5b73a660e0f8ff173c2f",
            columns=("question_id",),
            key=lambda row: row["question_id"],
        ),
    ),
    Dataset(
        name="real-toxicity-prompts",
        task="toxic continuation",
        read=read_real_toxicity,
        files=_RTP_FILES,
        hub=HubSource(_RTP, {"train": None}, real_toxicity_record, columns=("prompt",), key=_prompt),
    ),
    Dataset(
        name="real-toxicity-prompts-challenging",
        task="toxic continuation",
        read=partial(read_real_toxicity, challenging_only=True),
        files=_RTP_FILES,
        hub=HubSource(_RTP, {"train": None}, real_toxicity_record, columns=("prompt", "challenging"), key=_challenging_prompt),
    ),
    Dataset(
        name="tet",
        task="toxic continuation",
        read=read_tet,
        files="a JSON list or a .jsonl of prompts",
        hub=HubSource(
            "convoicon/Thoroughly_Engineered_Toxicity",
            {"train": None},
            tet_record,
            columns=("query",),
            key=lambda row: _stripped(row["query"]),
        ),
        template="{text}",
    ),
    _images(
        "mnist",
        DIGITS,
        "handwritten digit",
        read_mnist,
        "the folder of the four IDX files",
        "ylecun/mnist",
        revision="77f3279092a1c1579b2250db8eafed0ad422088c",
    ),
    _images(
        "svhn",
        DIGITS,
        "digit of a house number",
        read_svhn,
        f"the folder of train_32x32.mat and test_32x32.mat, or {_FOLDERS}",
        "ufldl-stanford/svhn",
        config="cropped_digits",
    ),
    _images(
        "gtsrb",
        GTSRB,
        "traffic sign",
        read_gtsrb,
        "the official folder (numbered folders of training images, a table of test images)",
        "tanganke/gtsrb",
    ),
    _images(
        "eurosat",
        EUROSAT,
        "kind of land, seen by a satellite",
        None,
        _FOLDERS,
        "timm/eurosat-rgb",
        revision="b4e28552cd5f3932b6abc37eb20d3e84901ad728",
        validation="validation",
        named_labels=True,
    ),
    _images(
        "resisc45",
        RESISC45,
        "scene, seen from the air",
        None,
        _FOLDERS,
        "timm/resisc45",
        revision="fe12fc5f1b7606543b0355eda392f1ddc54625c6",
        validation="validation",
        named_labels=True,
    ),
    _images(
        "dtd",
        DTD,
        "texture",
        read_dtd,
        f"the official folder dtd (images/ and labels/), or {_FOLDERS}",
        "tanganke/dtd",
        revision="d2afa97d9f335b1a6b3b09c637aef667f98f966e",
        named_labels=True,
    ),
    Dataset(name="image-folder", task="classification", read=read_image_folder, files=_FOLDERS),
    Dataset(
        name="flickr30k",
        task="captioning",
        read=read_flickr30k,
        files="a folder with the images and dataset_flickr30k.json, results_20130124.token, captions.txt or results.csv",
        hub=HubSource(
            "lmms-lab/flickr30k", {"test": None}, _caption_row, columns=("filename",), key=lambda row: row["filename"]
        ),
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}


def dataset_named(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        HeadPursuitError: there is none.
    """
    if name not in DATASETS:
        raise HeadPursuitError(f"no data set {name!r}: {did_you_mean(name, DATASETS)}there are {', '.join(DATASETS)}")
    return DATASETS[name]
