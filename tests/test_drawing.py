"""Drawings: every shape draws, the same values give the same file, and what counts lies on the axes."""

from __future__ import annotations

import itertools
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import headpursuit as hp
from headpursuit import drawing
from headpursuit.drawing.style import COLOURS, DARK, LIGHT, MARKERS, SELECTION_NAMES
from headpursuit.ranking.methods import SELECTIONS
from headpursuit.report.templating import environment
from report import made_up


def test_every_choice_of_heads_has_a_name_a_colour_and_a_mark():
    for selection in SELECTIONS:
        assert selection in SELECTION_NAMES
        assert selection in COLOURS
        assert selection in MARKERS
    assert len({*COLOURS.values()}) == len(COLOURS)
    figure = drawing.effects([made_up.row("calibrated", 1, 0.5), made_up.row("somp", 1, 0.7)])
    assert "calibrated" in [text.get_text() for text in figure.legends[0].get_texts()]
    css = environment().get_template("page.css").render()
    for name, colour in (*LIGHT.items(), *DARK.items()):
        assert f"--{name}: {colour};" in css


# What red, green and blue light become for those who lack one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
BLINDNESS = {
    "none": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def light(colour):
    share = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(linear):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(linear, 0, 1)
    x, y, z = np.cbrt(xyz / (0.9505, 1, 1.0888))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def luminance(colour):
    return float(np.dot([0.2126, 0.7152, 0.0722], light(colour)))


@pytest.mark.parametrize("sheet", [LIGHT, DARK], ids=["light", "dark"])
def test_the_colour_blind_tell_the_colours_apart_and_all_see_them(sheet):
    names = [selection.replace("_", "-") for selection in COLOURS]
    for kind, seen in BLINDNESS.items():
        for one, other in itertools.combinations(names, 2):
            apart = np.linalg.norm(lab(np.array(seen) @ light(sheet[one])) - lab(np.array(seen) @ light(sheet[other])))
            assert apart > 20, (kind, one, other)  # 2 is just noticed
    for name in sheet.keys() - {"paper", "card", "rule", "cell", "mark"}:
        least = 4.5 if name in ("ink", "quiet", "somp", "tuned", "good", "bad", "open") else 3  # WCAG: text, marks
        dark, bright = sorted((luminance(sheet[name]), luminance(sheet["card"])))
        assert (bright + 0.05) / (dark + 0.05) >= least, name


def shades(path):
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("L"))))


def drawn():
    results = made_up.results()
    table = pd.DataFrame(np.linspace(0, 1, 9).reshape(3, 3), index=list("abc"), columns=list("abc"))
    points = {"tried": [(0.1, 1.0), (2.0, 0.4)], "best": [(0.1, 0.9), (2.0, 0.4)]}
    odd = "$\\frac{1}{0$ \x00 \ud800"
    return {
        "heat map": drawing.heat_map(np.random.default_rng(0).random((4, 6)), title=odd, outlined=[hp.Head(1, 2), (0, 0)]),
        "named heat map": drawing.heat_map(table, title="named"),
        "bars": drawing.bars([odd, "b"], [0.4, -0.1], title="bars", label=odd),
        "effects": drawing.effects(results.rows, title=odd),
        "sweep over k": drawing.sweep(results.rows, over="k", target=("captioning", "colours words"), title=odd),
        "sweep over the scale": drawing.sweep(made_up.mnist().rows, over="scale"),
        "trade-off": drawing.trade_off(points, marked=[("tuned", 2.0, 0.4)], reach=0.5, title=odd, xlabel="x", ylabel="y"),
        "overlap": drawing.overlap(table),
        "wide overlap": drawing.overlap(pd.DataFrame(np.eye(15), index=range(15), columns=range(15))),
    }


def test_the_same_values_draw_the_same_files(tmp_path):
    for name, figure in drawn().items():
        path = drawing.save_figure(figure, tmp_path / "new" / f"{name}.png")
        assert shades(path) > 20, name
        drawing.save_figure(figure, tmp_path / f"{name}.svg")
    for name, figure in drawn().items():
        again = drawing.save_figure(figure, tmp_path / "again.svg")
        assert again.read_bytes() == (tmp_path / f"{name}.svg").read_bytes(), name


def test_inlined_figures_are_named_and_follow_the_page():
    for name, figure in drawn().items():
        text = drawing.to_svg(figure, title=f"<{name}>", description="what it shows")
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label") == f"<{name}>"
        assert [one.tag.rpartition("}")[2] for one in root][:2] == ["title", "desc"]
        assert "var(--ink, #1c1c1e)" in text
        assert "metadata" not in text
        # Nothing white lies behind the drawing, and nothing is left without its referent.
        assert not re.search(r"fill: (#ffffff|white)", text)
        idents = {one.get("id") for one in root.iter() if one.get("id")}
        assert set(re.findall(r"(?:href=\"|url\()#([\w-]+)", text)) == idents


def test_a_file_of_its_own_holds_both_looks(tmp_path):
    text = drawing.save_figure(drawing.bars(["red"], [0.4], title="bars"), tmp_path / "bars.svg").read_text()
    assert f'[style*="fill: {LIGHT["ink"]}"] {{ fill: {DARK["ink"]} !important }}' in text
    assert f"fill: {LIGHT['ink']}" in re.sub("<style>.*</style>", "", text)  # plain colours, for programs without style sheets
    assert f"fill: {LIGHT['card']}" in re.sub("<style>.*</style>", "", text)  # the paper turns dark with the rest


def test_a_few_low_values_do_not_make_all_others_alike():
    alphas = drawing.heat_map(np.array([[-90.0, 1.0, 2.0, 3.0, 4.0]])).axes[0].collections[0].get_facecolor()[:, 3]
    assert alphas == pytest.approx([0.06, 0.295, 0.53, 0.765, 1.0])


def test_cells_of_an_inlined_map_have_names():
    figure = drawing.heat_map(np.array([[0.1, np.nan], [0.3, 0.2]]))
    root = ElementTree.fromstring(drawing.to_svg(figure, cells=["a", "b", "c", "d"]))
    assert [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")] == ["a", "b", "c", "d"]


def test_a_dot_stands_in_the_cell_that_it_is_of():
    (axes,) = drawing.heat_map(np.array([[0.1, 0.2, 0.9]]), dotted=[hp.Head(0, 2), (0, 0)]).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] == [(2, 0), (0, 0)]
    dark, pale = (line.get_color() for line in axes.lines)
    assert dark != pale, "it is seen on dark cells and on pale ones"


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 2)), np.zeros((2, 2, 2))])
def test_what_is_no_grid_is_refused(values):
    with pytest.raises(hp.HeadPursuitError, match="needs a grid"):
        drawing.heat_map(values)


@pytest.mark.parametrize("values", [np.full((2, 2), np.nan), np.zeros((2, 2)), np.full((2, 2), -3.0)])
def test_maps_without_differences_are_drawn(values, tmp_path):
    assert drawing.save_figure(drawing.heat_map(values), tmp_path / "map.png").is_file()


def test_a_map_is_shaded_from_its_lowest_to_its_highest():
    values = np.array([[5.0, 5.1], [np.nan, 5.2]])
    alphas = drawing.heat_map(values).axes[0].collections[0].get_facecolor()[:, 3]
    assert alphas == pytest.approx([0.06, 0.53, 0.0, 1.0])


def test_changes_stand_on_an_axis_of_their_own():
    rows = [made_up.row("somp", 1, 0.5), made_up.row("somp", 1, None, metric="log-odds", change=-2.0)]
    ratios, changes = drawing.effects(rows).axes
    assert [one.get_text().split("\n")[0] for one in ratios.get_yticklabels()] == ["colours words"]
    assert [one.get_text().split("\n")[0] for one in changes.get_yticklabels()] == ["colours: log-odds"]
    assert ratios.lines[0].get_xdata()[0] == 1
    assert changes.lines[0].get_xdata()[0] == 0


def test_every_number_lies_on_the_axis():
    rows = made_up.results(effect=7.3).rows
    axes = drawing.effects(rows).axes[0]
    left, right = axes.get_xlim()
    shown = [x for row in rows if row.selection != "none" for x in (row.effect, *row.spread)]
    assert left <= min(0.0, *shown)
    assert max(shown) <= right


@pytest.mark.parametrize("costs", [[0.2, 0.5, 0.9], [7.0, 8.0, 9.0, 30.0], [6.5] * 20 + [400.0]])
def test_a_trade_off_shows_most_points_and_says_what_lies_beyond(costs):
    figure = drawing.trade_off({"tried": [(cost, 0.5) for cost in costs]}, marked=[("tuned", costs[0], 0.5)])
    axes = figure.axes[0]
    inside = sum(axes.get_xlim()[0] <= cost <= axes.get_xlim()[1] for cost in costs)
    assert inside >= 0.75 * len(costs)
    assert axes.get_xlim()[1] > 1  # the limit
    said = [text.get_text() for text in axes.texts if "beyond" in text.get_text()]
    assert said == ([f"{len(costs) - inside} beyond →"] if inside < len(costs) else [])


def test_the_target_has_the_largest_panel():
    figure = drawing.sweep(made_up.results().rows, over="k", target=("digits", "accuracy"))
    areas = {axes.get_title().split("\n")[0]: axes.get_position().width * axes.get_position().height for axes in figure.axes}
    assert max(areas, key=areas.get) == "accuracy"


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(hp.HeadPursuitError, match=r"bars\.png could not be written"):
        drawing.save_figure(drawing.bars(["a"], [1.0]), tmp_path / "file" / "bars.png")


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(hp.errors.MissingExtraError, match=r"headpursuit\[report\]"):
        drawing.bars(["a"], [1.0])
