"""Random token sets: what they share with a concept, and what they never hold."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import headpursuit as hp
import tiny
from headpursuit.ranking.null import random_token_sets, token_counts

VOCABULARY = len(tiny.tokenizer())


@pytest.fixture(scope="module")
def unembedding():
    lengths = torch.linspace(0.1, 4, VOCABULARY)[torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(1))]
    rows = torch.randn(VOCABULARY, 16, generator=torch.Generator().manual_seed(2))
    return rows / rows.norm(dim=1, keepdim=True) * lengths[:, None]


def ordinary():
    read = tiny.tokenizer()
    return [i for i in range(VOCABULARY) if i not in read.all_special_ids and read.decode([i]).strip("\ufffd").strip()]


def flat(one):
    return [token for row in one for token in row]


def test_sets_have_the_concepts_lengths(unembedding):
    usable = ordinary()
    lengths = unembedding.norm(dim=1).numpy()
    shortest = sorted(usable, key=lambda token: lengths[token])[3:13:3]
    found = random_token_sets([(token,) for token in shortest], unembedding, tiny.tokenizer(), draws=200)
    assert found.matched == ("norm",)
    assert found.classes == 10
    # The concept lies within the shortest tenth of the vocabulary, and so must every set.
    tenth = np.quantile(lengths[usable], 0.1)
    for one in found.sets:
        assert len(set(flat(one))) == 4
        assert lengths[flat(one)].max() <= tenth
    assert {token for one in found.sets for token in flat(one)} == {i for i in usable if lengths[i] < tenth}
    assert found.shared == pytest.approx(np.mean([token in shortest for one in found.sets for token in flat(one)]))


def test_special_blank_and_broken_tokens_are_never_drawn(unembedding):
    rows = [(token,) for token in ordinary()[::9]]
    drawn = {token for one in random_token_sets(rows, unembedding, tiny.tokenizer(), draws=300).sets for token in flat(one)}
    assert drawn <= set(ordinary())
    assert len(drawn) > 0.9 * len(ordinary())


def test_means_keep_their_shape(unembedding):
    a, b, c = ordinary()[10:40:10]
    found = random_token_sets([(a, b), (a,), (b, c)], unembedding, tiny.tokenizer(), draws=20)
    for (first, second), (alone,), (third, fourth) in found.sets:
        assert first == alone
        assert second == third
        assert len({first, second, fourth}) == 3


def test_sets_have_the_concepts_frequencies(unembedding):
    usable = ordinary()
    counts = np.zeros(VOCABULARY)
    often = usable[: len(usable) // 2]
    counts[often] = np.arange(1, len(often) + 1)
    rare = [token for token in usable if not counts[token]][:4]
    for concept, seen in ((rare, False), (often[-4:], True)):
        found = random_token_sets([(token,) for token in concept], unembedding, tiny.tokenizer(), draws=50, frequencies=counts)
        assert found.matched == ("norm", "frequency")
        assert all(bool(counts[token]) is seen for one in found.sets for token in flat(one))
    highest = max(counts)
    assert min(counts[token] for one in found.sets for token in flat(one)) > highest / 2


def test_the_seed_decides(unembedding):
    def drawn(seed):
        return random_token_sets([(50,), (60,)], unembedding, tiny.tokenizer(), draws=5, seed=seed).sets

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_what_cannot_be_drawn_is_refused(unembedding):
    with pytest.raises(hp.HeadPursuitError, match="at least 2"):
        random_token_sets([(50,)], unembedding, tiny.tokenizer(), draws=1)
    with pytest.raises(hp.HeadPursuitError, match=r"shape \(3,\), the vocabulary has"):
        random_token_sets([(50,)], unembedding, tiny.tokenizer(), draws=5, frequencies=np.ones(3))


def test_tokens_are_counted():
    counts = token_counts(tiny.tokenizer(), [*tiny.TEXTS, ""], vocabulary_size=VOCABULARY)
    expected = Counter(token for text in tiny.TEXTS for token in tiny.tokenizer().encode(text, add_special_tokens=False))
    assert {token: int(count) for token, count in enumerate(counts) if count} == dict(expected)
    with pytest.raises(hp.HeadPursuitError, match="no token"):
        token_counts(tiny.tokenizer(), [""], vocabulary_size=VOCABULARY)


def test_tokens_with_ids_behind_a_hole_are_drawn():
    raw = Tokenizer(models.WordLevel({"<unk>": 0, "red": 40, "blue": 30, "green": 20, "pink": 3}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    rows = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
    found = random_token_sets([(3,)], rows, tokenizer, draws=200)
    assert {token for one in found.sets for token in flat(one)} == {3, 20, 30, 40}
