"""Which figures a result has, and the picture for a README."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit.drawing import save_figure
from headpursuit.evaluation.results import Example
from headpursuit.ranking.overlap import ConceptMap
from headpursuit.report import figures, render_readme_figure
from report import made_up


def shades(path):
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("L"))))


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ("one", ["colours-map-somp", "colours-map-logit_lens", "colours-alpha-1", "colours-alpha4", "described"]),
        ("paper", ["mnist-map-somp", "mnist-alpha-1"]),
        ("tuned", ["trade-off", "colours-map-somp", "colours-effects"]),
        ("ranking", ["colours-map"]),
        ("empty", []),
    ],
)
def test_every_shape_has_its_figures(shape, names):
    assert list(figures(made_up.SHAPES[shape]())) == names


def test_transfer_has_its_matrix_and_shared_heads(tmp_path):
    found = figures(made_up.crossed())
    assert {"transfer", "overlap"} <= set(found)
    values = [text.get_text() for text in found["transfer"].axes[0].texts if text.get_text()[:1] == "0"]
    assert values == ["0.30", "0.30", "0.40", "0.40"]
    assert not {"transfer", "overlap"} & set(figures(made_up.results()))


def test_more_scales_than_numbers_of_heads_are_drawn_over_the_scale():
    rows = tuple(made_up.row("somp", 2, 0.5 + scale / 10, scale=scale) for scale in (-1.0, 0.0, 0.5, 2.0))
    results = replace(made_up.results(goals=False), rows=rows)
    figure = figures(results)["colours-k2"]
    assert figure.axes[0].get_xlabel() == "scale α"


def test_a_single_number_of_heads_is_drawn_with_its_intervals():
    results = made_up.SHAPES["one"]()
    one = replace(results, rows=tuple(row for row in results.rows if row.k in (0, 1)))
    assert {row.k for row in one.rows} == {0, 1}
    drawn = {name: figures(one)[name].axes[0] for name in figures(one) if not name.startswith(("colours-map", "described"))}
    assert drawn
    for name, axes in drawn.items():
        bars = [
            tuple(segment[:, 1])
            for lines in axes.collections
            if hasattr(lines, "get_segments")
            for segment in lines.get_segments()
        ]
        assert any(high > low for low, high in bars), name


def made_map(z):
    scores = np.random.default_rng(0).random((3, 4, 6))
    scores[:, 2, 4:] = np.nan
    return ConceptMap(("a_b", "c d", "d"), scores, -scores if z else None, "somp", 50, "mean", {})


@pytest.mark.parametrize("z", [False, True])
def test_maps_of_concepts_are_drawn(tmp_path, z):
    # Scores that are all below 0, as z may be, are one shade and no error.
    assert shades(save_figure(made_map(True).plot(z=z), tmp_path / "map.png")) > 20
    with pytest.raises(hp.HeadPursuitError, match="has no z"):
        made_map(False).plot(z=True)


def test_scores_are_scaled_to_each_concept_and_z_is_not():
    scores = np.array([[[1.0, 2.0]], [[10.0, 20.0]]])
    found = ConceptMap(("a", "b"), scores, scores, "somp", 50, "mean", {})

    def alphas(z):
        return found.plot(z=z).axes[0].collections[0].get_facecolor()[:, 3].reshape(2, 2)

    assert alphas(False)[0] == pytest.approx(alphas(False)[1])
    assert alphas(True)[0].max() < alphas(True)[1].min()


@pytest.mark.parametrize("shape", ["one", "several", "large", "no goals", "crossed", "paper"])
def test_readme_pictures_are_drawn_for_every_shape(tmp_path, shape):
    what = made_up.SHAPES[shape]()
    path = render_readme_figure(what if isinstance(what, list) else [what], tmp_path / "new" / "run.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 400 < image.width < 2400
    assert shades(path) > 20


def test_concepts_are_chosen_by_name(tmp_path):
    runs = made_up.several()
    colours = render_readme_figure(runs, tmp_path / "a.png").read_bytes()
    assert render_readme_figure(runs, tmp_path / "b.png", concept="colours").read_bytes() == colours
    assert render_readme_figure(runs, tmp_path / "b.png", concept="moods").read_bytes() != colours
    with pytest.raises(hp.HeadPursuitError, match="choose one of colours, moods"):
        render_readme_figure(runs, tmp_path / "b.png", concept="zebras")
    with pytest.raises(hp.HeadPursuitError, match="at least one concept"):
        render_readme_figure([], tmp_path / "run.png")


def test_odd_texts_do_not_break_the_picture(tmp_path):
    odd = ("$\\frac{1}{0$ \x00 red", "word " * 400, "x" * 300, "", "\n\n red \n")
    concept = replace(made_up.results().concepts[0], examples=tuple(Example(t, t, t, enhanced=t) for t in odd))
    runs = [replace(made_up.results(), concepts=(concept,))]
    assert render_readme_figure(runs, tmp_path / "run.png", n_examples=5).is_file()
