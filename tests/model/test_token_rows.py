"""A sample gives the same row of tokens and the same activations alone, in any batch, in any order, in any batch size."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForImageTextToText, LlamaForCausalLM, PreTrainedTokenizerFast

import headpursuit as hp
import tiny
import vlm
from concepts import tokenizers_for_tests as kinds
from headpursuit.model.tokenize import collate, make_prompt, token_fingerprint

WITH_BOS = "{{ bos_token }}{% for m in messages %}[U] {{ m['content'] }} [A]{% endfor %}"
WITHOUT_BOS = "{% for m in messages %}[U] {{ m['content'] }} [A]{% endfor %}"
TEMPLATES = {"none": None, "with bos": WITH_BOS, "without bos": WITHOUT_BOS}
ADDED = {"neither": "$A", "bos": "<s> $A", "eos": "$A </s>", "both": "<s> $A </s>", "prefix": "[gMASK] <sop> $A"}
WORDS = ["red", "blue", "two dogs in France", "the ", "May we go?\n", " red", "Turkey turkey 3 4", "ü é", "a red ball and"]
TARGETS = [None, "Paris", " red", "two dogs", "é"]


def specials_around(base: str, form: str) -> PreTrainedTokenizerFast:
    """A tokenizer of some kind that adds special tokens in some form."""
    raw = Tokenizer.from_str(getattr(kinds, base)().backend_tokenizer.to_str())
    names = ["<s>", "</s>", "<pad>", "[gMASK]", "<sop>", "<image>"]
    raw.add_special_tokens(names)
    raw.post_processor = processors.TemplateProcessing(
        single=ADDED[form], special_tokens=[(name, raw.token_to_id(name)) for name in names]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **special, extra_special_tokens={"image_token": "<image>"})


def word_piece() -> PreTrainedTokenizerFast:
    """BERT's kind: lower-cased, with [CLS] before a text and [SEP] behind it."""
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>"]
    raw.train_from_iterator(
        kinds.CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    ends = [(name, raw.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names, extra_special_tokens={"image_token": "<image>"})


@cache
def model(kind: str, form: str = "", template: str = "none", family: str = "llama", dtype: str = "float64") -> hp.HeadModel:
    """A tiny model behind a tokenizer of that kind."""
    tokenizer = word_piece() if kind == "word_piece" else specials_around(kind, form)
    config = tiny.config(family)
    text = config.get_text_config()
    text.vocab_size = len(tokenizer)
    text.pad_token_id, text.bos_token_id, text.eos_token_id = tokenizer.pad_token_id, None, None
    processor = tokenizer
    if family != "llama":
        processor = tiny.processor(family)
        processor.tokenizer = tokenizer
        processor.image_token_id = config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    # Of a model with images it is the processor that has the template.
    processor.chat_template = TEMPLATES[template]
    torch.manual_seed(0)
    auto = LlamaForCausalLM if family == "llama" else AutoModelForImageTextToText
    make = auto if family == "llama" else auto.from_config
    return hp.wrap(make(config).to(getattr(torch, dtype)).eval(), processor=processor)


KINDS = [*product(("byte_level", "llama", "unigram"), ADDED), ("word_piece", "")]


def rows(chosen: hp.HeadModel, samples: list[hp.Sample], *, side: str = "right", with_target: bool = False):
    """Each sample's own ids, and how many of them are its target's."""
    batch = collate(chosen, [make_prompt(chosen, one) for one in samples], side=side, with_target=with_target)
    ids = batch.inputs["input_ids"]
    return [(row[real].tolist(), int(answer.sum())) for row, real, answer in zip(ids, batch.real, batch.answer, strict=True)]


SAMPLES = st.builds(hp.Sample, text=st.sampled_from(WORDS), target=st.sampled_from(TARGETS), chat=st.booleans())


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("kind", "form"), KINDS)
@settings(max_examples=15, deadline=None)
@given(samples=st.lists(SAMPLES, min_size=2, max_size=5), side=st.sampled_from(["left", "right"]))
def test_a_row_of_tokens_depends_on_its_sample_alone(kind, form, template, samples, side):
    chosen = model(kind, form, template)
    assert rows(chosen, samples, side=side) == [rows(chosen, [one])[0] for one in samples]
    answered = [one for one in samples if one.target]
    if answered:
        together = rows(chosen, answered, side=side, with_target=True)
        assert together == [rows(chosen, [one], with_target=True)[0] for one in answered]
        for one, (ids, n_answer) in zip(answered, together, strict=True):
            before = rows(chosen, [one])[0][0]
            assert ids[: len(before)] == before
            assert n_answer == len(ids) - len(before) > 0


@pytest.mark.parametrize(("kind", "form"), KINDS)
def test_special_tokens_are_the_tokenizers_or_the_templates(kind, form):
    chosen = model(kind, form, "none" if kind == "word_piece" else "with bos")
    tokenizer = chosen.tokenizer
    plain = tokenizer("a red ball", add_special_tokens=False)["input_ids"]
    opening = {"bos": ["<s>"], "both": ["<s>"], "prefix": ["[gMASK]", "<sop>"], "": ["[CLS]"]}.get(form, [])
    assert rows(chosen, [hp.Sample("a red ball", chat=False)])[0][0] == tokenizer.convert_tokens_to_ids(opening) + plain
    if form:
        rendered = tokenizer.apply_chat_template([{"role": "user", "content": "a red ball"}], tokenize=False)
        asked = rows(chosen, [hp.Sample("a red ball")])[0][0]
        assert asked == tokenizer(rendered, add_special_tokens=False)["input_ids"]
        assert asked.count(tokenizer.bos_token_id) == 1
        by_hand = rows(chosen, [hp.Sample("<s>a red ball", chat=False)])[0][0]
        assert by_hand.count(tokenizer.bos_token_id) == 1


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit in float64; in float32 kernels add up in another order for other shapes."""
    if one.dtype == torch.float64:
        return torch.equal(one, other)
    return bool((one - other).norm() <= 1e-5 * other.norm())


def noisy(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8))


IMAGES = [None, noisy((16, 16)), noisy((32, 16)), noisy((20, 40))]
WITH_IMAGES = st.builds(
    hp.Sample,
    text=st.sampled_from(WORDS),
    target=st.sampled_from(TARGETS[1:]),
    chat=st.booleans(),
    image=st.sampled_from(IMAGES),
)


@pytest.mark.parametrize(("kind", "form"), KINDS)
@settings(max_examples=8, deadline=None)
@given(samples=st.lists(WITH_IMAGES, min_size=2, max_size=4), template=st.sampled_from(list(TEMPLATES)), answered=st.booleans())
def test_a_row_with_or_without_an_image_depends_on_its_sample_alone(kind, form, samples, template, answered):
    chosen = model(kind, form, template, "llava")
    together = rows(chosen, samples, with_target=answered)
    assert together == [rows(chosen, [one], with_target=answered)[0] for one in samples]
    patches = [ids.count(chosen.anatomy.image_token_id) for ids, _ in together]
    assert patches == [0 if one.image is None else 4 for one in samples]
    ending = {"eos": "</s>", "both": "</s>", "": "[SEP]"}.get(form)
    if ending is not None:  # nothing ends what is to be written on
        assert not any(chosen.tokenizer.convert_tokens_to_ids(ending) in ids for ids, _ in together)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", ["llama", "llava"])
@pytest.mark.parametrize(("number", "kind", "form"), [(number, *kind) for number, kind in enumerate(KINDS)])
def test_activations_depend_on_the_sample_alone(number, kind, form, family, dtype):
    chosen = model(kind, form, list(TEMPLATES)[number % len(TEMPLATES)], family, dtype)
    images = IMAGES * 3 if family == "llava" else [None] * len(WORDS)
    samples = [
        hp.Sample(text, target=target, chat=chat, image=image)
        for text, target, chat, image in zip(WORDS, TARGETS[1:] * 3, [True, False] * 5, images, strict=False)
    ]
    order = np.random.default_rng(0).permutation(len(samples))
    for positions in ("mean", "last", "answer"):
        alone = hp.capture(chosen, samples, positions=positions, batch_size=1, progress=False)
        mixed = hp.capture(chosen, [samples[row] for row in order], positions=positions, batch_size=4, progress=False)
        for layer in alone.layers:
            assert same(mixed.z[layer], alone.z[layer][torch.tensor(order)])


def test_a_target_follows_a_text_that_ends_in_a_blank_as_the_model_writes_it():
    chosen = model("byte_level", "neither")
    one, blank = (
        hp.Sample("a red ball and", target="two dogs", chat=False),
        hp.Sample("a red ball and ", target="two dogs", chat=False),
    )
    joined = chosen.tokenizer("a red ball and two dogs", add_special_tokens=False)["input_ids"]
    (whole, _), (behind, n_answer) = rows(chosen, [one, blank], with_target=True)
    assert whole == joined
    assert chosen.tokenizer.decode(behind) == "a red ball and two dogs"
    assert behind[-n_answer:] == chosen.tokenizer("two dogs", add_special_tokens=False)["input_ids"]
    prefixed = model("llama", "neither")  # its tokenizer puts a blank before every text of its own
    assert prefixed.tokenizer.decode(rows(prefixed, [blank], with_target=True)[0][0]) == "a red ball and two dogs"


@pytest.mark.parametrize("family", ["llava", "llava-next"])
def test_rows_with_and_without_images_and_templates_stand_alone(family):
    hf = tiny.hf_model(family).double()
    processor = tiny.processor(family)
    tokenizer = processor.tokenizer.__copy__() if hasattr(processor.tokenizer, "__copy__") else processor.tokenizer
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    processor.chat_template = WITH_BOS
    chosen = hp.wrap(hf, processor=processor)
    samples = [
        hp.Sample("two cats", image=noisy((16, 16)), target="sleep"),
        hp.Sample("the flag ", image=noisy((32, 16)), chat=False, target="is"),
        hp.Sample("one sad clown", target="drinks"),
        hp.Sample("a dog", chat=False, target="runs"),
        hp.Sample("two happy cats", image=noisy((20, 40)), target="sleep"),
    ]
    for with_target in (False, True):
        together = rows(chosen, samples, with_target=with_target)
        assert together == [rows(chosen, [one], with_target=with_target)[0] for one in samples]
        for ids, _ in together:
            assert ids.count(1) == 1
            assert ids[0] == 1
            assert 2 not in ids
    for positions in ("mean", "answer"):
        alone = hp.capture(chosen, samples, positions=positions, batch_size=1, progress=False)
        mixed = hp.capture(chosen, samples[::-1], positions=positions, batch_size=5, progress=False)
        for layer in alone.layers:
            assert torch.equal(alone.z[layer], mixed.z[layer].flip(0))


@pytest.mark.parametrize("family", vlm.FAMILIES)
def test_rows_of_real_processors_stand_alone(family):
    vlm.skip_where_missing(family)
    chosen = vlm.vlm(family)
    samples = [
        hp.Sample(text, image=noisy(size), target=target)
        for text, size, target in zip(
            ("two cats", "the flag of France is", "a"), vlm.IMAGE_SIZES, ("sleep", "red", "b"), strict=True
        )
    ]
    for with_target in (False, True):
        together = rows(chosen, samples, side="left", with_target=with_target)
        assert together == [rows(chosen, [one], with_target=with_target)[0] for one in samples]


def test_the_fingerprint_sees_whatever_decides_the_tokens():
    def taken(kind="byte_level", form="bos", template="none", **sample):
        return token_fingerprint(model(kind, form, template), [hp.Sample(**{"text": "a red ball", **sample}), hp.Sample("two")])

    seen = {
        taken(),
        taken(form="eos"),
        taken(template="with bos"),
        taken(target="red"),
        taken(text="a red ball "),
        taken(kind="llama"),
    }
    assert len(seen) == 6
    assert taken() == taken()
    assert taken(template="with bos", chat=False) != taken(template="with bos")
    acts = hp.capture(model("byte_level", "bos"), [hp.Sample("a red ball"), hp.Sample("two")], progress=False)
    assert acts.about["tokens"] == taken()


def test_a_padding_token_beyond_the_embeddings_is_masked_and_a_word_is_refused():
    hf = tiny.hf_model("llama")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str()), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"pad_token": "[MORE]"})
    tokenizer.add_tokens(["zebra"])
    chosen = hp.wrap(hf, processor=tokenizer)
    texts = [*tiny.TEXTS]
    together = hp.capture(chosen, texts, progress=False)
    alone = hp.capture(chosen, texts, batch_size=1, progress=False)
    torch.testing.assert_close(together.z[2], alone.z[2], rtol=1e-4, atol=1e-5)
    assert chosen.generate(texts, max_new_tokens=20) == [chosen.generate(text, max_new_tokens=20) for text in texts]
    with pytest.raises(hp.HeadPursuitError, match=r"sample 0: token 42\d \('zebra'\) is beyond the 420 embeddings"):
        hp.capture(chosen, ["a zebra"], progress=False)


def test_padding_whose_embedding_is_not_finite_does_not_count():
    hf = tiny.hf_model("llama")
    with torch.no_grad():
        hf.get_input_embeddings().weight[0] = float("nan")
    together = hp.capture(hp.wrap(hf, processor=tiny.tokenizer()), list(tiny.TEXTS), progress=False)
    assert all(bool(z.isfinite().all()) for z in together.z.values())


def test_half_a_character_is_refused_in_one_line():
    with pytest.raises(hp.HeadPursuitError, match=r"sample 1: the text holds .* no character"):
        hp.capture(tiny.tiny("llama"), ["two cats", "a \ud800 b"], progress=False)
