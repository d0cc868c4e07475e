"""Results as they show themselves: charts and tables of a tuned edit, of named heads."""

from __future__ import annotations

from dataclasses import replace

from report import made_up


def labels(figure):
    return [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]


def test_a_tuned_edit_is_shown_beside_the_fixed_one_of_another_number_of_heads():
    found = made_up.tuned().results
    assert {(row.selection, row.k) for row in found.target_rows()} == {("tuned", 2), ("somp", 1), ("random", 2)}
    assert "2 by tuned" in found._repr_html_()
    assert "1 by somp" in found._repr_html_()


def test_named_heads_are_drawn_as_bars_best_first():
    found = replace(made_up.results(), rows=(), concepts=())
    third = replace(found.descriptions[2], explained_variance=(0.3, 0.5, 0.9), tokens=(" blue", "", "x"))
    lens = replace(third, method="logit_lens", explained_variance=None, frequency=(1.0, 1.0, 1.0))
    shown = replace(found, descriptions=(*found.descriptions[:2], third, lens))
    names = labels(shown.plot())
    assert len(names) == 3
    assert names[0] == f"{third.head}  blue, ∅, x"
    assert third.head.name in shown._repr_html_()
