"""Copies of Hub repositories, made and read by the real library; no network is needed."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.data import DATASETS, load_records

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def write(folder, split, rows, features=None):
    folder.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def test_trivia_rows_are_the_records_of_the_official_files(tmp_path):
    answer = {"value": "Paris", "aliases": ["PARIS"], "normalized_aliases": ["paris", "paris france"]}
    rows = [{"question": f"{n}?", "question_id": str(n % 2), "answer": answer} for n in range(3)]
    write(tmp_path / "data", "train", rows)
    write(tmp_path / "data", "validation", [{"question": "v?", "question_id": "v", "answer": answer}])
    first, second = load_records("trivia-qa", path=tmp_path, split="selection")
    assert (first.text, second.text) == ("0?", "1?")  # the third has the id of the first
    assert first.answers == ("Paris", "paris", "paris france")
    (held_out,) = load_records("trivia-qa", path=tmp_path, split="test")
    assert held_out.text == "v?"
    assert " validation row 0" in held_out.where


def test_a_copy_with_its_card_has_configurations(tmp_path):
    answer = {"value": "Paris", "aliases": [], "normalized_aliases": ["paris"]}
    configs = []
    for config, text in (("rc", "long?"), ("rc.nocontext", "short?")):
        write(tmp_path / config, "validation", [{"question": text, "question_id": "1", "answer": answer}])
        files = [{"split": "validation", "path": f"{config}/validation-*"}]
        configs.append({"config_name": config, "data_files": files})
    (tmp_path / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    assert [record.text for record in load_records("trivia-qa", path=tmp_path, split="test")] == ["short?"]


def test_images_come_with_their_class(tmp_path):
    names = ["River", "Forest"]  # the repository's own order, and its own spelling
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    image = Image.new("RGB", (5, 4), (9, 8, 7))
    for split, label in (("train", 0), ("validation", 0), ("test", 1)):
        write(tmp_path / "data", split, [{"image": image, "label": label}], features)
    (record,) = load_records("eurosat", path=tmp_path, split="test")
    assert record.label == "forest"
    assert record.image.size == (5, 4)
    assert [one.label for one in load_records("eurosat", path=tmp_path, split="all")] == ["river", "forest", "river"]


def test_numbers_of_signs_are_the_official_ones(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    write(tmp_path / "data", "test", [{"image": Image.new("RGB", (5, 4)), "label": 14}], features)
    write(tmp_path / "data", "train", [{"image": Image.new("RGB", (5, 4)), "label": 0}], features)
    assert load_records("gtsrb", path=tmp_path, split="test")[0].label == "stop"


def test_undivided_repositories_are_halved_like_files(tmp_path):
    rows = [
        {"prompt": {"text": f" Prompt {n} "}, "continuation": {"text": f" on {n}"}, "challenging": n % 2 == 0}
        for n in range(60)
    ]
    write(tmp_path / "hub" / "data", "train", rows)
    (tmp_path / "files").mkdir()
    datasets.Dataset.from_list(rows).to_json(str(tmp_path / "files" / "prompts.jsonl"))
    for name in ("real-toxicity-prompts", "real-toxicity-prompts-challenging"):
        assert load_records(name, path=tmp_path / "hub", split="test", limit=9, seed=3) == load_records(
            name, path=tmp_path / "files", split="test", limit=9, seed=3
        )


def test_captions_and_their_images(tmp_path):
    features = datasets.Features(
        {"image": datasets.Image(), "caption": datasets.List(datasets.Value("string")), "filename": datasets.Value("string")}
    )
    rows = [{"image": Image.new("RGB", (3, 3)), "caption": ["A dog.", "One dog."], "filename": f"{n}.jpg"} for n in range(8)]
    write(tmp_path / "data", "test", rows, features)
    found = load_records("flickr30k", path=tmp_path, split="all")
    assert len(found) == 8
    assert found[0].references == ("A dog.", "One dog.")
    halves = [load_records("flickr30k", path=tmp_path, split=part) for part in ("selection", "test")]
    assert len(halves[0]) + len(halves[1]) == 8


def test_what_cannot_be_read_is_said(tmp_path):
    write(tmp_path / "data", "train", [{"words": "x"}])
    with pytest.raises(hp.HeadPursuitError, match=r"no column 'query' \(it has words\)"):
        load_records("tet", path=tmp_path, split="all")
    write(tmp_path / "images" / "data", "test", [{"picture": "x", "label": 1}])
    write(tmp_path / "images" / "data", "train", [{"picture": "x", "label": 1}])
    with pytest.raises(hp.HeadPursuitError, match=r"test row 0: no column 'image' \(it has picture, label\)"):
        load_records("gtsrb", path=tmp_path / "images", split="test")
    with pytest.raises(hp.HeadPursuitError, match="could not be read as a data set"):
        load_records("trivia-qa", path=tmp_path, split="test")  # there is no validation split


def test_the_hub_is_named_when_it_cannot_be_reached():
    with pytest.raises(hp.HeadPursuitError, match=r"ylecun/mnist could not be read .* give the path of local files"):
        load_records("mnist", split="test")


def test_pinned_revisions_are_commits():
    pinned = [dataset.hub.revision for dataset in DATASETS.values() if dataset.hub and dataset.hub.revision]
    assert len(pinned) >= 5
    assert all(len(revision) == 40 and int(revision, 16) >= 0 for revision in pinned)
