"""Samples from files: every format, and every way in which a file can be wrong."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.model.samples import as_samples, fingerprint


def test_text_lines_keep_their_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  two \n", encoding="utf-8")
    samples = as_samples(tmp_path / "a.txt")
    assert [(sample.text, sample.where) for sample in samples] == [("one", "a.txt line 1"), ("two", "a.txt line 3")]


def test_records_say_the_same_in_every_format(tmp_path):
    records = [{"text": "a", "target": "b", "chat": False}, {"text": "c, d"}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "s.csv").write_text('text,target,chat\na,b,false\n"c, d",,\n')
    expected = [hp.Sample(text="a", target="b", chat=False), hp.Sample(text="c, d")]
    assert as_samples(tmp_path / "s.jsonl") == expected
    assert as_samples(tmp_path / "s.csv") == expected


def test_parquet_says_the_same(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    pd.DataFrame([{"text": "a", "target": "b"}, {"text": "c", "target": None}]).to_parquet(tmp_path / "s.parquet")
    assert as_samples(tmp_path / "s.parquet") == [hp.Sample(text="a", target="b"), hp.Sample(text="c")]


def test_a_folder_of_images(tmp_path):
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    samples = as_samples(tmp_path)
    assert [sample.image.name for sample in samples] == ["a.jpg", "b.png"]
    assert samples[0].open_image().size == (4, 4)


def test_limit_and_fingerprint():
    assert as_samples(["a", "b", "c"], limit=2) == as_samples(["a", "b"])
    assert fingerprint(as_samples(["a", "b"])) != fingerprint(as_samples(["a", "c"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "there is no file"),
        ("empty.txt", b"\n\n", "holds no samples"),
        ("latin.txt", "ok\nna\u00efve\n".encode("latin-1"), r"latin\.txt line 2: not UTF-8"),
        ("bad.jsonl", b'{"text": "a"}\n{"text"\n', r"bad\.jsonl line 2: not JSON"),
        ("list.jsonl", b"[1]\n", r"line 1: expected an object"),
        ("void.jsonl", b'{"target": "x"}\n', r"line 1: neither text nor image"),
        ("out.jsonl", b'{"image": "../../etc/passwd"}\n', r"line 1: the image .* lies outside"),
        ("data.xml", b"<a/>", "samples are read from"),
    ],
)
def test_a_wrong_file_gets_one_clear_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        as_samples(tmp_path / name)


def test_no_samples_at_all():
    with pytest.raises(hp.HeadPursuitError, match="holds no samples"):
        as_samples([])


def test_what_is_in_memory_is_taken_like_what_a_file_holds(tmp_path):
    import pandas as pd

    image = Image.new("RGB", (4, 4))
    records = [{"text": "a", "target": "b", "chat": False}, {"image": image, "other": 1}]
    expected = [hp.Sample(text="a", target="b", chat=False), hp.Sample(image=image)]
    assert as_samples(records) == expected
    assert as_samples(["a", hp.Sample(text="b"), {"text": "c"}]) == [hp.Sample(text=text) for text in "abc"]
    frame = pd.DataFrame([{"text": "a", "target": "b"}, {"text": "c", "target": None}])
    assert as_samples(frame) == [hp.Sample(text="a", target="b"), hp.Sample(text="c")]


def test_a_dataset_is_a_list_of_records():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"text": "a", "target": "b"}, {"text": "c", "target": None}])
    assert as_samples(rows) == [hp.Sample(text="a", target="b"), hp.Sample(text="c")]
    with pytest.raises(hp.HeadPursuitError, match=r"a mapping \(train\) is no list of samples"):
        as_samples(datasets.DatasetDict({"train": rows}))


def test_a_draw_is_seeded_and_keeps_the_order(tmp_path):
    texts = [f"{number:03d}" for number in range(50)]
    (tmp_path / "s.txt").write_text("\n".join(texts))
    drawn = [one.text for one in as_samples(texts, sample=10)]
    assert drawn == [one.text for one in as_samples(tmp_path / "s.txt", sample=10, seed=0)]
    assert drawn == sorted(set(drawn)) != texts[:10]
    assert len(drawn) == 10
    assert drawn != [one.text for one in as_samples(texts, sample=10, seed=1)]
    assert [one.text for one in as_samples(texts, limit=5, sample=9)] == texts[:5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("The flag of France", r"no file 'The flag of France': .* a text is given in a list, \[text\]"),
        ("many words " * 100, "no file 'many words"),
        (["a", 3], "sample 1: 3 is neither a text, a Sample nor a record"),
        ([{"words": "a"}], r"sample 0: neither text nor image; .* \(it has words\)"),
        ([{"image": 3}], "sample 0: the image 3 is neither a PIL image nor a path"),
        (hp.Sample(text="a"), r"give \[sample\]"),
        (3, "3 is no list of samples"),
    ],
)
def test_what_is_no_sample_gets_one_clear_line(given, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as refused:
        as_samples(given)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("option", ["limit", "sample"])
def test_nothing_cannot_be_kept(option):
    with pytest.raises(hp.HeadPursuitError, match=f"{option}=0: give at least 1"):
        as_samples(["a"], **{option: 0})
