"""Images and captions from files written by hand in the official formats."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.data import load_records
from headpursuit.data.classes import readable

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(folder, prefix, pixels, labels, *, zipped=False, mark="-"):
    files = {
        f"{prefix}-images{mark}idx3-ubyte": struct.pack(">BBBBIII", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes(),
        f"{prefix}-labels{mark}idx1-ubyte": struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels),
    }
    for name, content in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


def picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(path)


@pytest.mark.parametrize(("zipped", "mark"), [(False, "-"), (True, "-"), (False, ".")])
def test_mnist_files(tmp_path, zipped, mark):
    idx(tmp_path, "train", PIXELS, [7, 0], zipped=zipped, mark=mark)
    idx(tmp_path, "t10k", 255 - PIXELS[:1], [3], zipped=zipped, mark=mark)
    first, second = load_records("mnist", path=tmp_path, split="selection")
    assert (first.label, second.label) == ("7", "0")
    assert np.array_equal(np.asarray(second.image), PIXELS[1])
    (held_out,) = load_records("mnist", path=tmp_path, split="test")
    assert held_out.label == "3"
    assert np.array_equal(np.asarray(held_out.image), 255 - PIXELS[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 9, 3, 1, 1, 1) + b"x", "not an IDX file .* 00 00 09 03"),
        ("train-images-idx3-ubyte", b"\0\0", "not an IDX file"),
        ("train-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + b"x", "its header says 24 bytes"),
        ("train-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, 1, 1, 1) + b"xy", "its header says 1 bytes"),
        ("train-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, 1, 1, 1) + b"x", "1 train images but 2 labels"),
        ("train-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, *[2**32 - 1] * 3), "its header says 792281624"),
        ("train-images-idx3-ubyte", gzip.compress(b"abc" * 99, mtime=0)[:-20], "cannot be read"),
        ("train-labels-idx1-ubyte", struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"\x01\x0b", "'11' is no class"),
    ],
)
def test_a_broken_mnist_file_is_named(tmp_path, name, content, message):
    idx(tmp_path, "train", PIXELS, [7, 0])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_records("mnist", path=tmp_path, split="selection")


def test_a_missing_mnist_file_is_named(tmp_path):
    idx(tmp_path, "train", PIXELS, [7, 0])
    with pytest.raises(hp.HeadPursuitError, match=r"no t10k-images-idx3-ubyte or"):
        load_records("mnist", path=tmp_path, split="test")


def test_a_folder_a_class_with_and_without_parts(tmp_path):
    for part in ("train", "test", "val"):
        picture(tmp_path / "divided" / part / "AnnualCrop" / "1.png")
    divided = {part: load_records("eurosat", path=tmp_path / "divided", split=part) for part in ("selection", "test", "all")}
    assert [record.where for record in divided["test"]] == ["test/AnnualCrop/1.png"]
    assert [record.label for record in divided["selection"]] == ["annual crop"]
    assert len(divided["all"]) == 3
    for number in range(40):
        picture(tmp_path / "whole" / "2750" / "SeaLake" / f"SeaLake_{number}.png", number)
    halves = [load_records("eurosat", path=tmp_path / "whole", split=part) for part in ("selection", "test")]
    assert sum(map(len, halves)) == 40
    assert all(halves)
    assert not {record.image for record in halves[0]} & {record.image for record in halves[1]}


def test_a_folder_that_is_no_class_is_named(tmp_path):
    picture(tmp_path / "forrest" / "1.png")
    with pytest.raises(hp.HeadPursuitError, match="'forrest' is no class of this data set; did you mean 'forest'"):
        load_records("eurosat", path=tmp_path, split="all")
    assert load_records("image-folder", path=tmp_path, split="all")[0].label == "forrest"
    (tmp_path / "empty").mkdir()
    with pytest.raises(hp.HeadPursuitError, match="no images"):
        load_records("image-folder", path=tmp_path / "empty", split="all")


@pytest.mark.parametrize("layout", ["official", "beside", "other"])
def test_traffic_signs_by_number_and_table(tmp_path, layout):
    training, test, table, columns = {
        "official": ("Final_Training/Images/00014", "Final_Test/Images", "GT-final_test.csv", "Filename;Width;ClassId"),
        "beside": ("Training/00014", "Images", "Images/GT-final_test.csv", "Filename;Width;ClassId"),
        "other": ("Train/14", "Test", "Test.csv", "Path,Width,ClassId"),
    }[layout]
    picture(tmp_path / training / "00000_00000.ppm")
    picture(tmp_path / test / "00000.ppm")
    name, mark = ("Test/00000.ppm", ",") if layout == "other" else ("00000.ppm", ";")
    (tmp_path / table).write_text(f"{columns}\n{mark.join((name, '30', '33'))}\n")
    assert [record.label for record in load_records("gtsrb", path=tmp_path, split="selection")] == ["stop"]
    (record,) = load_records("gtsrb", path=tmp_path, split="test")
    assert record.label == "turn right"
    assert record.where.endswith("csv line 2")
    assert record.image.is_file()


def test_a_table_may_not_name_files_elsewhere(tmp_path):
    picture(tmp_path / "data" / "Train" / "1" / "a.png")
    picture(tmp_path / "secret.png")
    (tmp_path / "data" / "Test.csv").write_text("Path,ClassId\n../secret.png,1\n")
    with pytest.raises(hp.HeadPursuitError, match=r"Test.csv line 2: the image .* lies outside"):
        load_records("gtsrb", path=tmp_path / "data", split="test")


def test_textures_by_the_official_lists(tmp_path):
    for number in (1, 2, 3):
        picture(tmp_path / "images" / "polka-dotted" / f"polka-dotted_{number}.jpg", number)
    (tmp_path / "labels").mkdir()
    for number, name in enumerate(("train1", "val1", "test1"), start=1):
        (tmp_path / "labels" / f"{name}.txt").write_text(f"polka-dotted/polka-dotted_{number}.jpg\n")
    (selected,) = load_records("dtd", path=tmp_path, split="selection")
    (tested,) = load_records("dtd", path=tmp_path, split="test")
    assert (selected.image.name, tested.image.name) == ("polka-dotted_1.jpg", "polka-dotted_3.jpg")
    assert tested.label == "polka-dotted"
    (tmp_path / "labels" / "test1.txt").write_text("\n../../x.jpg\n")
    with pytest.raises(hp.HeadPursuitError, match=r"test1.txt line 2: the image .* lies outside"):
        load_records("dtd", path=tmp_path, split="test")


def test_house_numbers_from_matlab(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3, 2), dtype=np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": np.array([[10], [4]], dtype=np.uint8)})
    zero, four = load_records("svhn", path=tmp_path, split="selection")
    assert (zero.label, four.label) == ("0", "4")
    assert np.array_equal(np.asarray(four.image), pixels[..., 1])
    (tmp_path / "test_32x32.mat").write_bytes(b"no matrix at all" * 20)
    with pytest.raises(hp.HeadPursuitError, match="not the cropped digits"):
        load_records("svhn", path=tmp_path, split="test")


CAPTIONS = {
    "results_20130124.token": "1.jpg#0\tA dog , brown .\n1.jpg#1\tA # sign.\n2.jpg#0\tTwo cats.\n",
    "captions.txt": 'image,caption\n1.jpg,"A dog , brown ."\n1.jpg,A # sign.\n2.jpg,Two cats.\n',
    "results.csv": "image_name| comment_number| comment\n"
    "1.jpg| 0| A dog , brown .\n1.jpg| 1   A # sign.\n2.jpg| 0| Two cats.\n",
    "dataset_flickr30k.json": json.dumps(
        {
            "images": [
                {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog , brown ."}, {"raw": " A # sign."}]},
                {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "Two cats."}]},
                {"filename": "3.jpg", "split": "val", "sentences": [{"raw": "Three."}]},
            ]
        }
    ),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions_in_every_file_that_goes_round(tmp_path, name):
    (tmp_path / name).write_text(CAPTIONS[name], encoding="utf-8")
    for number in (1, 2, 3):
        picture(tmp_path / "flickr30k-images" / f"{number}.jpg", number)
    found = load_records("flickr30k", path=tmp_path, split="all")[:2]
    assert [record.references for record in found] == [("A dog , brown .", "A # sign."), ("Two cats.",)]
    assert [record.image.name for record in found] == ["1.jpg", "2.jpg"]


def test_captions_are_read_line_by_line_and_a_long_one_whole(tmp_path, monkeypatch):
    from headpursuit.data.flickr30k import read_flickr30k

    picture(tmp_path / "1.jpg")
    caption = "a" * 200_000 + "\nand a second line"
    (tmp_path / "captions.txt").write_text(f'image,caption\n1.jpg,"{caption}"\n')
    (record,) = load_records("flickr30k", path=tmp_path, split="all")
    assert record.references == (caption,)
    large = tmp_path / "dataset_flickr30k.json"
    entry = '{"filename": "1.jpg", "split": "test", "sentences": [{"raw": "A dog."}]}'
    large.write_text('{"version": 1, "images": [' + ", ".join([entry] * 20_000) + " not JSON")
    first = next(iter(read_flickr30k(large, "all")))  # no more is read than is asked for
    assert first.make().references == ("A dog.",)


def test_karpathys_splits_are_kept(tmp_path):
    (tmp_path / "dataset_flickr30k.json").write_text(CAPTIONS["dataset_flickr30k.json"])
    picture(tmp_path / "2.jpg")
    assert [record.references for record in load_records("flickr30k", path=tmp_path, split="test")] == [("Two cats.",)]
    with pytest.raises(hp.HeadPursuitError, match=r"item 1: there is no image .*1.jpg"):
        load_records("flickr30k", path=tmp_path, split="selection")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results_20130124.token", "1.jpg#0\tA dog.\n2.jpg A cat.\n", "results_20130124.token line 2: no image and caption"),
        ("results_20130124.token", "a\0.jpg#0\tA dog.\n", "line 1: .* is no path of the image"),
        ("captions.txt", 'image,caption\n"x.jpg" y,a\n', "captions.txt, line 2: not readable as CSV"),
        ("results_20130124.token", "../1.jpg#0\tA dog.\n", "line 1: the image .* lies outside"),
        ("captions.txt", "image,caption\nx.jpg\n", "captions.txt line 2: no image and caption"),
        ("captions.txt", "image,caption\nx.jpg,A dog, brown.\n", "captions.txt line 2: 3 cells, where the first line has 2"),
        ("dataset_flickr30k.json", '{"images": [{"filename": "a"}]}', "item 1: expected filename, split"),
        ("dataset_flickr30k.json", "[]", 'expected a list under "images"'),
        ("other.md", "x", "no captions; expected one of"),
    ],
)
def test_what_is_wrong_with_captions_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        load_records("flickr30k", path=tmp_path, split="all")


@pytest.mark.parametrize(
    ("raw", "name"), [("AnnualCrop", "annual crop"), ("sea_ice", "sea ice"), ("polka-dotted", "polka-dotted"), ("7", "7")]
)
def test_class_names_become_readable(raw, name):
    assert readable(raw) == name
