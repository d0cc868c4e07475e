"""Kept rows: those of a draw that depends on samples and seed alone, whoever reads them and however often."""

from __future__ import annotations

import json

import pytest
import torch

import headpursuit as hp
import tiny
from activations.test_store import files, in_a_child
from command import call
from headpursuit.activations import capture as capture_module
from headpursuit.activations import store
from headpursuit.activations.blocks import survey
from headpursuit.activations.moments import KeptRowsWarning, merge_moments
from headpursuit.activations.reservoir import drawn
from headpursuit.model.samples import as_samples

TEXTS = [f"{text} {number}" for number in range(6) for text in tiny.TEXTS]
CONCEPT = hp.Concept("c", words=["red", "blue", "two"])
BOTH = pytest.mark.parametrize("positions", ["mean", "all"])


@pytest.fixture(scope="module")
def model(checkpoint):
    return hp.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(capture_module, "BLOCK", 8)


def kept(model, samples=TEXTS, keep_rows=10, **options):
    return hp.capture(model, samples, keep_rows=keep_rows, batch_size=4, **{"progress": False, **options})


@BOTH
def test_rows_are_those_of_the_samples_that_they_name_and_moments_those_of_all(model, positions):
    plain = hp.capture(model, TEXTS, batch_size=4, progress=False)
    acts = kept(model, positions=positions)
    assert acts.n == (len(TEXTS) if positions == "mean" else hp.capture(model, TEXTS, positions="all", progress=False).n)
    assert len(acts.rows.numbers) == len(set(acts.rows.numbers)) == acts.rows.n == 10
    assert list(acts.rows.numbers) == sorted(acts.rows.numbers)
    for layer, z in plain.z.items():
        torch.testing.assert_close(acts.rows.z[layer], z[list(acts.rows.numbers)])
        if positions == "mean":
            rows = z.double()
            torch.testing.assert_close(acts.total[layer], rows.sum(dim=0))
            torch.testing.assert_close(acts.second[layer], torch.einsum("nhe,nhf->hef", rows, rows))


@BOTH
def test_all_are_kept_where_there_are_no_more(model, positions):
    acts = kept(model, keep_rows=1000, positions=positions)
    assert acts.rows.numbers == tuple(range(len(TEXTS)))


def test_every_sample_is_as_likely_as_any_other(model):
    found = survey(model, as_samples(TEXTS), size=8, with_target=False, about={})
    counts = torch.zeros(len(TEXTS))
    for seed in range(3000):
        chosen = drawn(found, count=6, seed=seed)
        for block, key in enumerate(found.keys):
            for place in chosen.get(key, ()):
                counts[block * 8 + place] += 1
    assert counts.sum() == 6 * 3000
    expected = 3000 * 6 / len(TEXTS)
    assert ((counts - expected).square() / expected).sum() < 44.2  # chi-squared with 23 degrees, p = 0.005
    assert kept(model, seed=1).rows.numbers != kept(model, seed=2).rows.numbers


def test_the_draw_does_not_know_the_model(model):
    other = tiny.tiny("gpt2")
    assert kept(model).rows.numbers == kept(other, positions="all").rows.numbers


@BOTH
def test_workers_keep_the_same_rows(cluster, model, tmp_path, positions):
    alone = kept(model, out=tmp_path / "alone", positions=positions)
    two = kept(model, out=tmp_path / "two", positions=positions, engine="ray", workers=2)
    assert two == alone == kept(model, positions=positions)
    assert files(tmp_path / "two") == files(tmp_path / "alone")


@BOTH
def test_killed_anywhere_the_same_rows_are_kept(model, tmp_path, monkeypatch, positions):
    def capture(out):
        return kept(model, out=out, positions=positions)

    assert in_a_child(lambda: capture(tmp_path / "whole"))
    for kept_every in (30.0, 0.0):
        monkeypatch.setattr(store, "KEPT_EVERY", kept_every)
        out, step = tmp_path / f"cut {kept_every}", 1
        while not in_a_child(lambda out=out: capture(out), die_at=step, below=out):
            step += 5
        assert step > 10
        assert files(out) == files(tmp_path / "whole")
    assert hp.open_capture(tmp_path / "whole") == capture(None)


def test_files_that_are_added_take_places_of_a_draw_from_all(model, tmp_path):
    data, out = tmp_path / "data", tmp_path / "acts"
    data.mkdir()
    for number in (0, 2):
        (data / f"part-{number}.txt").write_text("\n".join(TEXTS[number * 8 : number * 8 + 8]))
    before = kept(model, data / "part-*.txt", out=out)
    (data / "part-1.txt").write_text("\n".join(TEXTS[8:16]))
    after = kept(model, data / "part-*.txt", out=out)
    fresh = kept(model, data / "part-*.txt")
    assert after.rows == fresh.rows
    assert after.ranks == fresh.ranks != before.ranks
    assert hp.open_capture(out) == after


def test_parts_are_merged_to_what_one_capture_keeps(model):
    whole = kept(model)
    merged = merge_moments([kept(model, TEXTS[start : start + 8]) for start in (0, 8, 16)])
    assert merged.ranks == whole.ranks
    assert merged.rows.numbers == whole.rows.numbers
    for layer in whole.layers:
        torch.testing.assert_close(merged.rows.z[layer], whole.rows.z[layer])
    with pytest.raises(hp.HeadPursuitError, match="draws of other sizes or seeds"):
        merge_moments([kept(model, TEXTS[:8]), kept(model, TEXTS[8:16], seed=1)])


def test_samples_that_are_skipped_have_no_rows(model, tmp_path):
    texts = [*TEXTS[:5], "red " * 100, *TEXTS[5:]]
    acts = kept(model, texts, keep_rows=1000, skip_bad=True, out=tmp_path / "acts")
    assert acts.rows.numbers == (*range(5), *range(6, 25))
    assert acts == kept(model, texts, keep_rows=1000, skip_bad=True)
    found = hp.describe(acts, heads="L1.H0", examples=2, samples=texts, progress=False)
    for example in found[0].examples:
        assert example.text == texts[example.sample]


def test_another_draw_is_another_capture(model, tmp_path):
    kept(model, out=tmp_path / "acts")
    for other in ({"keep_rows": 9}, {"seed": 1}):
        with pytest.raises(hp.HeadPursuitError, match="holds a capture of another model, or of other samples, options"):
            kept(model, out=tmp_path / "acts", **other)


def test_rows_are_read_when_they_are_needed_and_only_as_they_were_written(model, tmp_path):
    made = kept(model, out=tmp_path / "acts")
    for file in (tmp_path / "acts").glob("rows-*"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    opened = hp.open_capture(tmp_path / "acts")
    assert repr(opened) == repr(made)
    assert hp.rank(opened, CONCEPT, progress=False) == hp.rank(kept(model), CONCEPT, progress=False)
    with pytest.raises(hp.HeadPursuitError, match=r"rows-\w+.safetensors is not as it was written"):
        opened.rows.n  # noqa: B018


def test_what_needs_rows_looks_at_the_kept_ones_and_says_so(model):
    acts = kept(model)
    line = r"^{} look at the 10 of 24 samples whose rows were kept$"
    with pytest.warns(KeptRowsWarning, match=line.format("heads by the logit lens")):
        lens = hp.describe(acts, method="logit-lens", progress=False)
    assert list(lens) == list(hp.describe(acts.rows, method="logit-lens", progress=False))
    assert lens[0].n == 10
    with pytest.warns(KeptRowsWarning, match=line.format("pursuits by the criterion l1")):
        literal = hp.rank(acts, CONCEPT, method="somp", criterion="l1", draws=0, progress=False)
    assert literal.n == 10
    assert literal == hp.rank(acts.rows, CONCEPT, method="somp", criterion="l1", draws=0, progress=False)
    with pytest.warns(KeptRowsWarning, match=line.format("driving samples")):
        driven = hp.describe(acts, heads="L1.H0", examples=3, samples=TEXTS, progress=False)[0]
    assert {example.sample for example in driven.examples} <= set(acts.rows.numbers)
    assert [example.text for example in driven.examples] == [TEXTS[example.sample] for example in driven.examples]
    assert driven.n == 24
    with pytest.warns(KeptRowsWarning, match=line.format("draws of samples")):
        assert hp.stability(acts, CONCEPT, draws=3, k=2, progress=False).jaccard_samples is not None


def test_the_rest_looks_at_the_moments_of_all(model):
    rows, acts = hp.capture(model, TEXTS, batch_size=4, progress=False), kept(model)
    for method in ("somp", "logit_lens", "calibrated"):
        ranking = hp.rank(acts, CONCEPT, method=method, progress=False)
        expected = hp.rank(rows, CONCEPT, method=method, criterion="l2", progress=False)
        assert ranking.n == 24
        assert ranking.scores == pytest.approx(expected.scores, abs=1e-4, rel=1e-3)
    names = [hp.describe(one, n_atoms=2, criterion="l2", progress=False) for one in (acts, rows)]
    assert [one.tokens for one in names[0]] == [one.tokens for one in names[1]]


@pytest.mark.parametrize(
    ("look", "what"),
    [
        (lambda acts: hp.describe(acts, method="logit-lens", progress=False), "heads by the logit lens"),
        (lambda acts: hp.describe(acts, examples=2, samples=TEXTS, progress=False), "driving samples"),
        (lambda acts: hp.describe(acts, criterion="l1", progress=False), "pursuits by the criterion l1"),
        (lambda acts: hp.rank(acts, CONCEPT, criterion="l1", progress=False), "pursuits by the criterion l1"),
        (lambda acts: hp.significance(acts, CONCEPT, criterion="l1", progress=False), "pursuits by the criterion l1"),
    ],
)
def test_what_no_moments_tell_names_the_option(model, look, what):
    acts = hp.capture(model, TEXTS, positions="all", progress=False)
    with pytest.raises(hp.HeadPursuitError, match=f"^{what} need rows of samples, .*--keep-rows 2000") as caught:
        look(acts)
    assert "\n" not in str(caught.value)


def test_the_commands_take_both(checkpoint, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    given = ["capture", str(checkpoint), "--samples", str(tmp_path / "t.txt"), "--out", str(tmp_path / "acts"), "--seed", "4"]
    assert call(*given, "--keep-rows", "9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 24
    assert hp.open_capture(tmp_path / "acts").rows.n == 9
    given = ["rank", str(tmp_path / "acts"), "--concept", "colours", "--method", "somp", "--criterion", "l1", "--json"]
    with pytest.warns(KeptRowsWarning, match="the 9 of 24 samples"):
        assert call(*given) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 9
    with pytest.warns(KeptRowsWarning, match="the 9 of 24 samples"):
        assert call("describe", str(tmp_path / "acts"), "--method", "logit-lens", "--head", "L0.H1") == 0
    assert ", 9 samples, " in " ".join(capsys.readouterr().out.split())
    assert call("describe", str(tmp_path / "acts"), "--criterion", "l3") == 2
