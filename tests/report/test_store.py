"""A stored run makes the same page again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.report import (
    ConceptSection,
    DescribedHead,
    Example,
    RunReport,
    Verdict,
    load_run,
    render_report,
    save_run,
)

RUN = RunReport(
    title="A run",
    subtitle="of two layers",
    model="tiny",
    architecture="Llama",
    concepts=[
        ConceptSection(
            name="colours",
            words=["red"],
            method="somp",
            positions="answer",
            scores=np.array([[0.1, 0.2], [0.3, np.nan]]),
            heads=[DescribedHead("L1.H0", (" red", " blue"), 0.4, 0.3)],
            examples=[Example("look", "a red dog", "a dog", image=Image.new("RGB", (6, 4), "red"))],
            verdict=Verdict("at most 0.3", True),
        )
    ],
    described=[DescribedHead("L0.H1", (" May",), 0.5)],
    versions={"torch": "2"},
    notes=("one limit",),
)


def test_the_page_is_the_same(tmp_path):
    save_run(RUN, tmp_path)
    again = render_report(load_run(tmp_path), tmp_path / "again.html").read_text()
    assert again == render_report(RUN, tmp_path / "first.html").read_text()


def test_numbers_and_pictures_come_back(tmp_path):
    save_run(RUN, tmp_path)
    section = load_run(tmp_path).concepts[0]
    np.testing.assert_array_equal(section.scores, RUN.concepts[0].scores)
    assert section.examples[0].image.getpixel((0, 0)) == (255, 0, 0)


def test_an_image_cannot_lie_outside_the_folder(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    save_run(RUN, tmp_path / "run")
    stored = json.loads((tmp_path / "run/run.json").read_text())
    stored["concepts"][0]["examples"][0]["image"] = "../secret.png"
    (tmp_path / "run/run.json").write_text(json.dumps(stored))
    with pytest.raises(hp.HeadPursuitError, match="outside the folder"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("content", ["{", "{}", '{"concepts": 3}'])
def test_a_broken_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=r"run\.json cannot be read"):
        load_run(tmp_path)
