"""Wrong input ends in one true line and a known exit code; `make fuzz` runs many more of the same."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headpursuit as hp
from faults.fuzz import CASES, run
from headpursuit.concepts import as_concept
from headpursuit.concepts.keywords import _parsed
from headpursuit.evaluation.recipe import Recipe, load_recipe, parse_set
from headpursuit.model.heads import parse_heads

# As many of each kind as its weight says, times this.
ROUNDS = 1
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FREE = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", CASES)
def test_wrong_input_ends_in_one_true_line(world, kind):
    weight, _ = CASES[kind]
    found = run(range(weight * ROUNDS), world, kinds=(kind,))
    assert found.inputs[kind] == weight * ROUNDS
    assert found.failures == []


def test_the_fuzz_sees_a_command_that_falls_into_the_net(world, monkeypatch):
    monkeypatch.setattr("headpursuit.ranking.ranking.read_heads", None)
    found = run(range(30), world, kinds=("heads files",))
    assert any(fault.startswith("net: cli/") for _, _, fault in found.failures)


@FREE
@given(st.text() | PLAIN)
def test_heads_are_named_or_refused(value):
    with suppress(hp.HeadPursuitError):
        assert all(hp.Head.parse(head.name) == head for head in parse_heads(value))


@FREE
@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "x"]), PLAIN))
def test_recipes_are_read_or_refused(value):
    with suppress(hp.HeadPursuitError):
        load_recipe({"title": "t", "model": "demo", **value})


@FREE
@given(st.text(), PLAIN)
def test_keys_of_a_recipe_are_changed_or_refused(key, value):
    with suppress(hp.HeadPursuitError):
        name, _ = parse_set(f"{key}={value}")
        assert load_recipe("demo-digits", set={name: value}).tasks


@FREE
@given(st.text())
def test_replies_are_words_or_a_reason(text):
    assert isinstance(_parsed(text), str | list)


@FREE
@given(PLAIN)
def test_concepts_are_words_or_refused(value):
    with suppress(hp.HeadPursuitError):
        assert as_concept(value).words
