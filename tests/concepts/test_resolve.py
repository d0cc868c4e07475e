"""Resolution must find the tokens that a model writes, whatever the kind of tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from concepts import tokenizers_for_tests as kinds
from headpursuit.concepts import Concept, concept, concept_names, resolve
from headpursuit.concepts.vocabulary import gather_atoms
from headpursuit.errors import HeadPursuitError

ALL_KINDS = [kinds.byte_level, kinds.llama, kinds.unigram, kinds.split_blanks, kinds.forgetful, kinds.uncased]


def labels(words, tokenizer, **options):
    return set(resolve(Concept("test", tuple(words)), tokenizer, **options).labels)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_atom_is_one_ordinary_token_that_reads_like_its_word(kind):
    tokenizer = kind()
    resolved = resolve(Concept("test", ("red", "blue", "idiot", "3", "Kiribati", "☃")), tokenizer)
    assert len(resolved) == len(set(resolved.rows)) == len(resolved.labels) == len(resolved.words) > 0
    for row, label, word in zip(resolved.rows, resolved.labels, resolved.words, strict=True):
        assert len(row) == 1
        assert row[0] not in tokenizer.all_special_ids
        assert tokenizer.decode(list(row)).strip() == label.strip()
        assert label.strip().lower().startswith(word.lower())
    assert resolved.token_ids == tuple(row[0] for row in resolved.rows)
    assert {"Kiribati", "☃"} <= set(resolved.dropped_words)


def test_byte_level_keeps_both_forms_cases_and_plurals():
    assert labels(["red", "idiot"], kinds.byte_level()) >= {" red", "red", " Red", " RED", " reds", " idiot", " idiots"}


def test_capitals_inside_an_acronym_are_not_the_word():
    tokenizer = kinds.byte_level(("TITAN BATAN a tan tan ",) * 200)
    assert tokenizer.tokenize("TAN") == ["TAN"]
    assert len(tokenizer.tokenize(" TAN")) > 1
    assert "TAN" not in labels(["tan"], tokenizer)
    assert "TAN" in labels(["TAN"], tokenizer), "asked for in capitals, it counts"


def test_without_variants_only_the_word_as_given():
    assert labels(["red"], kinds.byte_level(), variants=False) == {" red", "red"}


def test_a_double_blank_of_the_dummy_prefix_is_not_the_word():
    # " red" is ▁ and ▁red for Llama 2, so a naive leading-space form is two tokens and its first one a bare blank.
    tokenizer = kinds.llama()
    assert tokenizer.tokenize(" red") == ["▁", "▁red"]
    resolved = resolve(Concept("test", ("red",)), tokenizer, variants=False)
    assert tokenizer.convert_ids_to_tokens([row[0] for row in resolved.rows]) == ["▁red"]
    first = resolve(Concept("test", ("South Korea",)), tokenizer, multi_token="first")
    assert first.labels == (" South",)


@pytest.mark.parametrize("dummy_prefix", ["always", "first", "never"])
def test_sentencepiece_forms_that_encode_alike_are_merged(dummy_prefix):
    tokenizer = kinds.unigram(dummy_prefix=dummy_prefix)
    resolved = resolve(Concept("test", ("red", "blue")), tokenizer, variants=False)
    tokens = tokenizer.convert_ids_to_tokens([row[0] for row in resolved.rows])
    assert len(tokens) == len(set(tokens))
    # The form inside a line exists too, although no text that starts with the word shows it.
    assert {"▁red", "red"} <= set(tokens)


def test_merges_are_reported_with_the_form_they_went_to():
    resolved = resolve(Concept("test", ("red",)), kinds.llama(), variants=False)
    merged = resolved.report.of("merged")
    assert [(entry.form, entry.reason) for entry in merged] == [("red", "as ' red'")]


def test_begin_of_text_tokens_are_not_taken_for_words():
    tokenizer = kinds.llama()
    assert tokenizer("red")["input_ids"][0] == tokenizer.bos_token_id
    resolved = resolve(Concept("test", ("red", "blue")), tokenizer, multi_token="first")
    assert tokenizer.bos_token_id not in resolved.token_ids


def test_a_blank_of_its_own_is_skipped_under_every_policy():
    tokenizer = kinds.split_blanks()
    words = ("South Korea",)
    assert resolve(Concept("test", words), tokenizer, multi_token="first").labels == ("South",)
    mean = resolve(Concept("test", words), tokenizer, multi_token="mean")
    assert tokenizer.convert_ids_to_tokens(list(mean.rows[0])) == ["South", "Korea"]


@pytest.mark.parametrize("declared", [True, False])
def test_the_unknown_token_is_never_accepted(declared):
    tokenizer = kinds.unigram(declare_unknown=declared)
    unknown = tokenizer.convert_tokens_to_ids("<unk>")
    for policy in ("skip", "first", "mean"):
        resolved = resolve(Concept("test", ("red", "☃", "Ω", "ré☃")), tokenizer, multi_token=policy)
        assert unknown not in resolved.token_ids
        assert set(resolved.dropped_words) == {"☃", "Ω", "ré☃"}


def test_a_tokenizer_that_drops_letters_does_not_make_another_word():
    # "re☃d" reads "red" once the snowman is dropped.
    resolved = resolve(Concept("test", ("blue", "re☃d")), kinds.forgetful(), multi_token="mean")
    assert resolved.dropped_words == ("re☃d",)
    assert "reads 'red'" in resolved.report.of("dropped")[0].reason


def test_proper_nouns_keep_their_capital():
    assert labels(["May", "Turkey"], kinds.byte_level()) >= {" May", " Turkey"}
    assert not labels(["May", "Turkey"], kinds.byte_level()) & {" may", "may", " turkey", "turkey"}
    # ... unless the tokenizer has no other form of them.
    assert " go" in labels(["GO"], kinds.byte_level())
    assert " may" in labels(["May"], kinds.uncased())


def test_plurals_can_be_off():
    assert " reds" not in set(resolve(Concept("test", ("red",), plurals=False), kinds.byte_level()).labels)


def test_multi_token_policies():
    tokenizer = kinds.byte_level()
    words = Concept("test", ("red", "South Korea"))
    south, korea = tokenizer.encode(" South Korea", add_special_tokens=False)
    skip = resolve(words, tokenizer)
    assert skip.dropped_words == ("South Korea",)
    assert "2 tokens: South | Korea" in str(skip.report)
    assert (south,) in resolve(words, tokenizer, multi_token="first").rows
    mean = resolve(words, tokenizer, multi_token="mean")
    assert mean.rows[-1] == (south, korea)
    assert mean.labels[-1] == " South Korea"
    assert {south, korea} <= set(mean.token_ids)
    # A word that has a single token keeps it, and gets no atom of pieces besides.
    assert [row for row, word in zip(mean.rows, mean.words, strict=True) if word == "red" and len(row) > 1] == []


def test_first_never_takes_a_part_of_a_letter():
    resolved = resolve(Concept("test", ("red", "☃")), kinds.byte_level(), multi_token="first")
    assert resolved.dropped_words == ("☃",)


def test_tokens_beyond_the_vocabulary_are_not_used():
    tokenizer = kinds.byte_level()
    blue = tokenizer.encode(" blue", add_special_tokens=False)[0]
    resolved = resolve(Concept("test", ("red", "blue")), tokenizer, variants=False, vocabulary_size=blue)
    assert all(token < blue for token in resolved.token_ids)


def test_atoms_gathers_rows_and_averages_the_rest():
    tokenizer = kinds.byte_level()
    unembedding = torch.randn(len(tokenizer), 7, generator=torch.Generator().manual_seed(0))
    resolved = resolve(Concept("test", ("red", "South Korea")), tokenizer, multi_token="mean")
    atoms = gather_atoms(unembedding, resolved.rows)
    assert atoms.shape == (len(resolved), 7)
    for atom, row in zip(atoms, resolved.rows, strict=True):
        torch.testing.assert_close(atom, unembedding[list(row)].mean(0))
    single = resolve(Concept("test", ("red",)), tokenizer)
    assert torch.equal(gather_atoms(unembedding, single.rows), unembedding[[row[0] for row in single.rows]])
    assert gather_atoms(unembedding.bfloat16(), resolved.rows).dtype == torch.bfloat16


def test_atoms_of_another_model_are_refused():
    resolved = resolve(Concept("test", ("red",)), kinds.byte_level())
    with pytest.raises(HeadPursuitError, match="has 5 rows"):
        gather_atoms(torch.zeros(5, 3), resolved.rows)
    with pytest.raises(HeadPursuitError, match=r"\(v, d\)"):
        gather_atoms(torch.zeros(5), resolved.rows)


def test_nothing_resolved_names_concept_tokenizer_words_and_way_out():
    tokenizer = kinds.byte_level()
    with pytest.raises(HeadPursuitError) as caught:
        resolve(Concept("islands", ("Kiribati", "Tuvalu", "Nauru", "Palau")), tokenizer)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("'islands'", tokenizer.__class__.__name__, "'Kiribati'", 'multi_token="first"'):
        assert part in message
    with pytest.raises(HeadPursuitError, match="trained on"):
        resolve(Concept("snow", ("☃",)), kinds.unigram(), multi_token="first")


def test_unknown_policies_are_refused():
    with pytest.raises(HeadPursuitError, match="multi_token='last': choose one of skip, first, mean"):
        resolve(Concept("test", ("red",)), kinds.byte_level(), multi_token="last")


def test_a_processor_is_as_good_as_its_tokenizer():
    processor = SimpleNamespace(tokenizer=kinds.byte_level())
    assert resolve(Concept("test", ("red",)), processor) == resolve(Concept("test", ("red",)), kinds.byte_level())


def test_the_report_prints_and_converts():
    report = resolve(Concept("test", ("red", "South Korea", "Kiribati")), kinds.byte_level()).report
    text = str(report)
    assert text.startswith("test for ")
    assert "from 1 of 3 words" in text
    assert "Kiribati" in text
    assert max(len(line) for line in text.splitlines()) <= 110
    frame = report.to_frame()
    assert len(frame) == len(report.entries)
    assert list(frame.columns) == ["word", "form", "status", "tokens", "token_ids", "reason"]
    assert json.loads(json.dumps(report.to_dict()))["concept"] == "test"


def test_long_reports_stay_short():
    words = tuple(f"nothing{number}" for number in range(300))
    report = resolve(Concept("test", ("red", *words)), kinds.byte_level(), variants=False).report
    assert "and 270 more" in str(report)


@pytest.mark.parametrize("name", concept_names())
def test_built_in_concepts_resolve(name):
    assert resolve(concept(name), kinds.byte_level(), multi_token="first").rows


def test_importing_concepts_loads_neither_torch_nor_libraries_nor_pandas():
    heavy = "{'torch', 'transformers', 'pandas', 'babel', 'inflect', 'webcolors', 'vaderSentiment'}"
    code = f"import headpursuit.concepts as c, sys; c.concept_names(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
