"""One function for every method: what it hands on, counts and refuses, and the cosine with the concept's direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.concepts import resolve
from headpursuit.hooks import Hooks

COLOURS = hp.Concept("colours", ("red", "white", "blue", "black", "pink", "grey"))
TEXTS = [f"{text} {word}" for text in tiny.TEXTS for word in ("red", "blue", "cats", "tea", "May")]


def test_methods_of_a_capture_are_those_of_rank(llama):
    acts = hp.capture(llama, TEXTS, positions="last", progress=False)
    for method, unit in (("somp", "share of variance"), ("logit-lens", "logits")):
        expected = hp.rank(acts, COLOURS, method=method, n_atoms=3, progress=False)
        made = hp.select(llama, TEXTS, COLOURS, method=method, positions="last", n_atoms=3, progress=False)
        given = hp.select(llama, TEXTS, COLOURS, method=method, acts=acts, n_atoms=3, progress=False)
        assert made == given == replace(expected, unit=unit)
        assert (made.cost.forward, made.cost.backward, given.cost.forward) == (len(TEXTS), 0, 0)
        assert made.cost.seconds > 0


def test_a_row_of_writing_counts_for_each_token(llama):
    def metric(model):
        with torch.no_grad():
            one = float(model.hf(torch.tensor([[1, 60]])).logits.sum())
        return one + len(model.generate(["two cats", "a"], max_new_tokens=3, min_new_tokens=3))

    ranking = hp.select(llama, TEXTS, COLOURS, method="knockout", metric=metric, masks=2, share=0.5, progress=False)
    assert ranking.cost.forward == 3 * (1 + 2 * 3)


def test_the_cosine_is_that_of_the_mean_output_with_the_mean_row(llama):
    acts = hp.capture(llama, TEXTS, positions="last", progress=False)
    ranking = hp.select(llama, TEXTS, COLOURS, method="cosine", positions="last", progress=False)
    rows = acts.weights.unembedding()[list(resolve(COLOURS, llama.tokenizer).token_ids)]
    direction = (rows / rows.norm(dim=1, keepdim=True)).mean(dim=0)
    for head in llama.anatomy.heads():
        output = acts.z[head.layer][:, head.head].mean(dim=0) @ acts.weights.projection(head.layer)[head.head]
        cosine = output @ direction / output.norm() / direction.norm()
        assert ranking.score(head) == pytest.approx(float(cosine), abs=1e-5)
    assert np.abs(ranking.scores).max() <= 1
    assert ranking == hp.select(llama, TEXTS, COLOURS, method="cosine", acts=acts, progress=False)


def test_the_direction_may_be_what_the_concept_changes(llama):
    speaking, silent = [text for text in TEXTS if "red" in text], ["two cats", "a dog runs over three green hills in May"]
    ranking = hp.select(llama, speaking, COLOURS, method="cosine", without=silent, positions="last", progress=False)
    means = []
    for texts in (speaking, silent):
        with torch.no_grad(), Hooks() as hooks:
            states = []
            hooks.before(llama.hf.model.norm, lambda module, args, states=states: states.append(args[0][0, -1]))
            for text in texts:  # one by one, where no padding stands
                llama.hf(llama.tokenizer(text, return_tensors="pt").input_ids)
        means.append(torch.stack(states).mean(dim=0))
    acts = hp.capture(llama, speaking, positions="last", progress=False)
    outputs = torch.einsum("he,hed->hd", acts.mean(1), acts.weights.projection(1))
    expected = torch.nn.functional.cosine_similarity(outputs, (means[0] - means[1])[None], dim=1)
    assert ranking.scores[1] == pytest.approx(expected.numpy(), abs=1e-4)
    assert ranking.cost.forward == 2 * len(speaking) + len(silent)
    assert ranking != hp.select(llama, speaking, COLOURS, method="cosine", positions="last", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="direction is zero"):
        hp.select(llama, speaking, COLOURS, method="cosine", without=speaking, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "choose one of calibrated, somp, logit_lens,"),
        ({"method": "knockouts"}, "did you mean 'knockout'"),
        ({"method": "attribution", "masks": 3}, "takes no masks: .*its options are batch_size, limit"),
        ({"method": "somp", "atoms": 3}, "takes no atoms: did you mean 'n_atoms'"),
        ({"method": "attribution", "acts": 1}, "takes no acts"),
        ({"method": "somp", "acts": 1}, "acts is a int: give what hp.capture"),
    ],
)
def test_what_a_method_does_not_take_is_refused(llama, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as refused:
        hp.select(llama, TEXTS, COLOURS, **options)
    assert "\n" not in str(refused.value)


def test_a_capture_of_another_model_is_refused(llama):
    acts = hp.capture(tiny.tiny("mistral"), TEXTS, progress=False)
    for method in ("somp", "cosine"):
        with pytest.raises(hp.HeadPursuitError, match=r"heads of MistralForCausalLM .* not of LlamaForCausalLM"):
            hp.select(llama, TEXTS, COLOURS, method=method, acts=acts)


def test_values_beside_the_score_are_saved_and_shown(llama, tmp_path):
    samples = [hp.Sample(text, target="red") for text in tiny.TEXTS]
    ranking = hp.select(llama, samples, COLOURS, method="knockout", masks=20, share=0.2, progress=False)
    found = hp.HeadRanking.load(ranking.save(tmp_path / "heads.json"))
    assert found == ranking
    assert found.cost == ranking.cost
    np.testing.assert_array_equal(found.values["error"], ranking.values["error"])
    assert found != replace(found, values={**found.values, "error": found.values["error"] * 2})
    assert list(ranking.to_frame().columns) == ["rank", "name", "layer", "head", "score", "effect", "error"]
