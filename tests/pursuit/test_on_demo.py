"""The fast pursuit on what a trained model's heads really write: every head of the embedded demo model."""

from __future__ import annotations

import pytest

import headpursuit as hp
from headpursuit.errors import HeadPursuitError
from pursuit.agreement import WAYS, assert_same_as_literal, use_way

TEXTS = [
    f"{opening} {country}{end}"
    for opening in ("The capital of", "I have never been to", "A red circle and two blue squares, but no", "Do you like")
    for country in ("France", "Japan", "Peru", "Kenya", "Norway", "Chile", "Egypt", "Canada", "India", "Cuba")
    for end in (" is", ", you fool.")
]


@pytest.fixture(scope="module")
def activations() -> hp.HeadActivations:
    try:
        model = hp.load("demo", device="cpu")
    except HeadPursuitError as error:
        pytest.skip(f"no demo model here: {error}")
    return hp.capture(model, TEXTS, positions="mean", progress=False)


@pytest.mark.parametrize("name", WAYS)
def test_every_head_of_the_demo(name: str, activations: hp.HeadActivations, monkeypatch: pytest.MonkeyPatch) -> None:
    use_way(name, monkeypatch)
    atoms = activations.weights.unembedding()
    for layer, z in activations.z.items():
        projection = activations.weights.projection(layer)
        found = hp.pursuit.somp_heads(z, projection, atoms, n_atoms=12)
        assert_same_as_literal(found, z, projection, atoms, n_atoms=12)
