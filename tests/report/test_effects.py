"""From tidy rows to what the summary and the charts say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headpursuit.report.effects import headline, measures, panels
from report import made_up_runs as made_up


def test_the_target_is_the_first_metric_unless_named():
    section = made_up.captioning("colours", made_up.COLOURS, 1)
    assert [m.metric for m in measures(section) if m.is_target] == ["colours_per_caption"] * 2
    named = replace(section, target_metric="caption_quality", target_task="captioning")
    assert {m.metric for m in measures(named) if m.is_target} == {"caption_quality"}
    elsewhere = replace(section, target_metric="caption_quality", target_task="another")
    assert not [m for m in measures(elsewhere) if m.is_target]


def test_the_headline_takes_the_chosen_k_and_the_worst_of_the_rest():
    section = made_up.captioning("colours", made_up.COLOURS, 1, k=2, ks=(1,), suppressed=0.04, enhanced=1.62)
    line = headline(section)
    assert line.suppress is not None
    assert (line.suppress.k, line.suppress.scale, line.suppress.relative("somp")) == (2, -1.0, 0.04)
    assert line.suppress.unedited == pytest.approx(0.93)
    assert line.suppress.n == 256
    assert line.kept is not None
    assert (line.kept.metric, line.kept.relative("somp")) == ("caption_quality", 0.94)
    assert line.enhance is not None
    assert line.enhance.relative("somp") == pytest.approx(1.62)
    at_one = headline(replace(section, k=1))
    assert at_one.suppress is not None
    assert at_one.suppress.k == 1
    assert headline(replace(section, k=7)).suppress == line.suppress


def test_a_section_without_rows_has_no_headline():
    line = headline(replace(made_up.captioning("colours", made_up.COLOURS, 1), rows=()))
    assert (line.suppress, line.kept, line.enhance) == (None, None, None)
    assert panels(replace(line.section, rows=())) == ()


def test_panels_hold_every_number_on_their_axis():
    section = made_up.captioning("colours", made_up.COLOURS, 1, ks=(1,), enhanced=7.3)
    suppress, enhance = panels(section)
    assert (suppress.title, enhance.title) == ("Suppress, α = −1", "Enhance, α = 5")
    for panel in (suppress, enhance):
        assert panel.ticks[0] == 0
        assert 1 in panel.ticks
        assert len(panel.ticks) <= 7
        assert panel.ticks[-1] <= panel.highest
        for measure in panel.measures:
            for effect in measure.effects.values():
                assert all(x is None or x <= panel.highest for x in (effect.shown, effect.q25, effect.q75))
    # Every k of the target, and of the rest only the chosen one.
    assert [(m.metric, m.k) for m in suppress.measures] == [
        ("colours_per_caption", 1),
        ("colours_per_caption", 2),
        ("other_attributes", 2),
        ("caption_quality", 2),
    ]


@pytest.mark.parametrize("highest", [0.2, 1.0, 1.6, 3.0, 11.0, 640.0])
def test_axes_have_a_few_round_ticks(highest):
    section = made_up.captioning("colours", made_up.COLOURS, 1, suppressed=highest, enhanced=None)
    (panel,) = panels(section)
    assert 2 <= len(panel.ticks) <= 8
