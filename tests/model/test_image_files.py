"""Images as people see them: upright, with the depth that they have, and none that was not meant."""

import io
import re

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.model.image_files import MOST_PIXELS
from headpursuit.model.samples import as_samples, fingerprint

GREY = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)


def pixels(image):
    return np.asarray(hp.Sample(image=image).open_image())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", None])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    image = Image.fromarray(GREY)
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 4 1 65535\n" + GREY.astype(">u2").tobytes())
    elif name is not None:
        image.save(tmp_path / name)
    found = pixels(image if name is None else tmp_path / name)
    assert found.tolist() == [[[value] * 3 for value in (0, 1, 128, 255)]]


def test_numbers_that_are_no_colours_are_refused(tmp_path):
    for number, values in enumerate(([[0, 70_000]], [[-1, 5]], [[0.0, 0.5]], [[0.0, float("nan")]], [[0.0, 300.0]])):
        kind = np.int32 if isinstance(values[0][0], int) else np.float32
        path = tmp_path / f"{number}.tif"
        Image.fromarray(np.array(values, dtype=kind)).save(path)
        with pytest.raises(hp.HeadPursuitError, match=r"its pixels are numbers from .* save it with 8 or 16 bits"):
            pixels(path)
    small = Image.fromarray(np.array([[0, 200]], dtype=np.int32))
    assert pixels(small)[0, :, 0].tolist() == [0, 200]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_an_image_stands_upright_as_transformers_shows_it(tmp_path, orientation, depth):
    from transformers.image_utils import load_image

    drawn = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    image = Image.fromarray(drawn if depth == 8 else drawn.astype(np.uint16) * 257)
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    found = pixels(tmp_path / "a.png")
    assert found.shape[:2] == ((2, 3) if orientation < 5 else (3, 2))
    Image.fromarray(drawn).save(tmp_path / "b.png", exif=exif)
    assert (found == np.asarray(load_image(str(tmp_path / "b.png")))).all()
    with Image.open(tmp_path / "a.png") as opened:
        assert (pixels(opened) == found).all()


def test_a_folder_gives_its_images_and_says_what_it_passed_over(tmp_path, caplog):
    drawn = Image.new("RGB", (4, 4), "red")
    for name in (
        "b.jfif",
        "a.AVIF",
        "sub/c.png",
        "._a.png",
        ".ipynb_checkpoints/d.png",
        "__MACOSX/e.png",
        "@eaDir/f.png",
        ".f/g.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        drawn.save(tmp_path / name, format={"b.jfif": "JPEG", "a.AVIF": "AVIF"}.get(name, "PNG"))
    (tmp_path / "x.heic").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    found = as_samples(tmp_path)
    assert [one.image.relative_to(tmp_path).as_posix() for one in found] == ["a.AVIF", "b.jfif", "sub/c.png"]
    assert all(one.open_image().getpixel((1, 1))[0] > 250 for one in found)
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: passed over 6 files (5 hidden, 1 .heic)"]
    from headpursuit.data import load_records

    assert len(load_records("image-folder", path=tmp_path, split="all")) == 3
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.heic").write_bytes(b"")
    with pytest.raises(hp.HeadPursuitError, match=r"no images \(.avif.*\) in this folder; passed over 1 files \(1 .heic\)"):
        as_samples(tmp_path / "none")


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    image = Image.new("1", (13_000, 13_000))
    image.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 200_000
    for one in (tmp_path / "a.png", image):
        with pytest.raises(hp.HeadPursuitError, match=f"the image.* has more than {MOST_PIXELS:,} pixels") as refused:
            pixels(one)
        assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_images_get_one_line_that_names_them(tmp_path):
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    drawer = np.random.default_rng(1)
    lines = []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "AVIF"):
        stream = io.BytesIO()
        drawn.save(stream, kind)
        whole = np.frombuffer(stream.getvalue(), dtype=np.uint8)
        for number in range(30):
            data = whole.copy()
            data[drawer.integers(0, min(len(data), 200), 5)] = drawer.integers(0, 256, 5)
            path = tmp_path / f"a{number}.{kind.lower()}"
            path.write_bytes(data[: drawer.integers(10, len(data))].tobytes() if number % 2 else data.tobytes())
            try:
                pixels(path)
            except hp.HeadPursuitError as error:
                lines.append(str(error))
    assert len(lines) > 100
    assert all(
        re.fullmatch(r"sample: the image \S*a\d+\.[a-z]+ (cannot be read \(.+\)|has more than .*)", line) for line in lines
    )


def test_bytes_of_images_in_a_table_are_images(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "PNG")
    cells = [{"bytes": stream.getvalue(), "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    pd.DataFrame({"image": cells}).to_parquet(tmp_path / "a.parquet")
    first, second = as_samples(tmp_path / "a.parquet")
    assert first.open_image().getpixel((0, 0)) == (255, 0, 0)
    assert second.image == tmp_path / "b.png"
    with pytest.raises(hp.HeadPursuitError, match=r"sample 0: the image cannot be read \(it is none that Pillow knows"):
        as_samples([{"image": {"bytes": b"no image"}}])
    cut = as_samples([{"image": {"bytes": stream.getvalue()[:45], "path": None}}])
    with pytest.raises(hp.HeadPursuitError, match="sample 0: the image cannot be read"):
        fingerprint(cut)
