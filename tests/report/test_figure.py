"""The picture for a README."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.report import Example, render_readme_figure
from report import made_up_runs as made_up


@pytest.mark.parametrize("name", ["demo", "bare", "large"])
def test_pictures_are_drawn_for_every_shape(tmp_path, name):
    path = render_readme_figure(made_up.RUNS[name](), tmp_path / "new" / "run.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 400 < image.width < 2400
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert path.stat().st_size < 1_000_000


def test_concepts_are_chosen_by_name(tmp_path):
    run = made_up.demo_like()
    colours = render_readme_figure(run, tmp_path / "a.png").read_bytes()
    assert render_readme_figure(run, tmp_path / "b.png", concept="colours").read_bytes() == colours
    assert render_readme_figure(run, tmp_path / "b.png", concept="countries").read_bytes() != colours
    with pytest.raises(HeadPursuitError, match="choose one of colours, sentiments"):
        render_readme_figure(run, tmp_path / "b.png", concept="zebras")


def test_odd_texts_do_not_break_the_picture(tmp_path):
    section = made_up.demo_like().concepts[0]
    texts = ["$\\frac{1}{0$ \x00 red", "word " * 400, "x" * 300, "", "\n\n red \n"]
    examples = [Example(text, text, text, enhanced=text) for text in texts]
    run = replace(made_up.demo_like(), concepts=[replace(section, examples=examples)])
    assert render_readme_figure(run, tmp_path / "run.png", n_examples=5).is_file()


def test_a_run_without_concepts_has_no_picture(tmp_path):
    with pytest.raises(HeadPursuitError, match="at least one concept"):
        render_readme_figure(made_up.empty(), tmp_path / "run.png")


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"headpursuit\[report\]"):
        render_readme_figure(made_up.demo_like(), tmp_path / "run.png")
