"""Figures across concepts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.ranking.overlap import ConceptMap
from headpursuit.report import render_concept_map, render_overlap


def made_map(z):
    scores = np.random.default_rng(0).random((3, 4, 6))
    scores[:, 2, 4:] = np.nan
    return ConceptMap(("a_b", "c d", "d"), scores, -scores if z else None, "somp", 50, "mean", {})


def shades(path):
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("L"))))


@pytest.mark.parametrize("count", [2, 15])
def test_overlaps_are_drawn(tmp_path, count):
    sets = {f"concept_{i}": [hp.Head(0, j) for j in range(i, i + 4)] for i in range(count)}
    path = render_overlap(hp.head_overlap(sets), tmp_path / "new" / "overlap.png")
    assert shades(path) > 20
    assert render_overlap(hp.head_overlap(sets), tmp_path / "overlap.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("values", ["scores", "z"])
def test_maps_are_drawn(tmp_path, values):
    # Scores that are all below 0, as z may be, are one shade and no error.
    path = render_concept_map(made_map(True), tmp_path / "map.png", values=values)
    assert shades(path) > 20
    again = render_concept_map(made_map(True), tmp_path / "again.png", values=values)
    assert again.read_bytes() == path.read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(hp.HeadPursuitError, match="has no z"):
        render_concept_map(made_map(False), tmp_path / "map.png", values="z")
    (tmp_path / "file").write_text("")
    with pytest.raises(hp.HeadPursuitError, match="cannot write the figure"):
        render_concept_map(made_map(False), tmp_path / "file" / "map.png")
