"""Edits at chosen tokens, against a hook of the test's own that knows each token of a whole, uncached sequence."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from transformers import pipeline

import headpursuit as hp
import tiny
import vlm
from headpursuit.model.tokenize import collate, make_prompt
from model.test_contracts import prompts

HEADS = ("L0.H1", "L1.H2", "L2.H3")
SCALE = -2.0
TOKEN_GROUPS = ("all", "image", "text", "prompt", "generated")
IMAGE_TOKEN = tiny.tokenizer().convert_tokens_to_ids("<image>")
# a random model would write image tokens, which belong to no image
OPTIONS = {"max_new_tokens": 5, "min_new_tokens": 5, "suppress_tokens": [IMAGE_TOKEN]}


@contextmanager
def by_hand(model, batch, where):
    """Scale at tokens that are worked out from the batch; right where every pass holds the whole sequence."""
    rows, length = batch.real.shape
    image = torch.zeros(rows, 200, dtype=torch.bool)
    image[:, :length] = batch.image
    prompt = torch.arange(200)[None].expand(rows, -1) < length
    chosen = {"all": prompt | True, "image": image, "text": ~image, "prompt": prompt, "generated": ~prompt}[where]

    def hook(head):
        def scale(module, args):
            z = args[0].clone()
            mask = chosen.repeat_interleave(z.shape[0] // rows, dim=0)[:, : z.shape[1]]
            width = model.anatomy.layer(head.layer).head_width
            columns = slice(head.head * width, (head.head + 1) * width)
            z[..., columns] = torch.where(mask[..., None], SCALE * z[..., columns], z[..., columns])
            return (z,)

        return scale

    handles = []
    for head in map(hp.Head.parse, HEADS):
        projection = model.module(model.anatomy.layer(head.layer).projection)
        handles.append(projection.register_forward_pre_hook(hook(head)))
    yield
    for handle in handles:
        handle.remove()


def batch_of(model, samples):
    return collate(model, [make_prompt(model, sample) for sample in samples], side="left")


def written(model, batch, **options):
    with torch.no_grad():
        out = model.hf.generate(
            **batch.inputs, do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True, **options
        )
    return out.sequences, torch.stack(out.logits)


@pytest.mark.parametrize("where", TOKEN_GROUPS)
@pytest.mark.parametrize("family", ["llama", "llava", "llava-next", "qwen3"])
@pytest.mark.parametrize("beams", [1, 3])
def test_an_edit_at_a_place_is_what_is_scaled_by_hand(family, where, beams):
    model = tiny.tiny(family)
    if where == "image" and model.images is None:
        pytest.skip("a text model has no image tokens")
    batch = batch_of(model, prompts(model))
    assert not batch.real.all()
    options = {**OPTIONS, "num_beams": beams, "num_return_sequences": min(beams, 2)}
    with by_hand(model, batch, where):
        sequences, logits = written(model, batch, use_cache=False, **options)
    for cache in (True, False):
        with hp.HeadEdit(HEADS, scale=SCALE, where=where).applied(model):
            found, found_logits = written(model, batch, use_cache=cache, **options)
        assert torch.equal(found, sequences)
        torch.testing.assert_close(found_logits, logits, rtol=1e-4, atol=1e-4)
    _, plain = written(model, batch, use_cache=False, **options)
    assert (plain - logits).abs().max() > 1e-2


@pytest.mark.parametrize("where", ["image", "text", "generated"])
@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_places_hold_for_batched_images_of_other_families(family, where):
    model = vlm.vlm(family)
    batch = batch_of(model, prompts(model))
    options = {"max_new_tokens": 4, "min_new_tokens": 4}
    with by_hand(model, batch, where):
        sequences, logits = written(model, batch, use_cache=False, **options)
    with hp.HeadEdit(HEADS, scale=SCALE, where=where).applied(model):
        found, found_logits = written(model, batch, use_cache=True, **options)
    assert torch.equal(found, sequences)
    finite = torch.isfinite(logits)
    torch.testing.assert_close(found_logits[finite], logits[finite], rtol=1e-3, atol=1e-3)
    plain = written(model, batch, **options)[1]
    assert (plain - logits)[finite].abs().max() > 1e-2


@pytest.mark.parametrize("family", ["blip-2", "kosmos-2"])
def test_a_decoder_that_generates_by_itself_takes_edits_of_all_tokens_only(family):
    model = vlm.vlm(family)
    batch = batch_of(model, prompts(model)[:1])
    heads = [model.anatomy.heads()[1]]
    with hp.HeadEdit(heads, scale=SCALE).applied(model):
        written(model, batch, max_new_tokens=2)
    with (
        hp.HeadEdit(heads, scale=SCALE, where="generated").applied(model),
        pytest.raises(hp.HeadPursuitError, match="use where='all'"),
    ):
        written(model, batch, max_new_tokens=2)


def test_where_no_token_stands_for_a_patch_there_is_no_such_place():
    for where in ("image", "text"):
        with pytest.raises(hp.HeadPursuitError, match="no token stands for a patch"):
            hp.HeadEdit(["L0.H0"], scale=-1, where=where).applied(vlm.vlm("mllama")).__enter__()


@pytest.mark.parametrize("where", ["image", "text", "prompt", "generated"])
def test_a_padded_batch_at_a_place_is_one_by_one(llava, where):
    samples = prompts(llava)
    with hp.HeadEdit(HEADS, scale=SCALE, where=where).applied(llava):
        together = llava.generate(samples, **OPTIONS)
        assert together == [llava.generate(sample, **OPTIONS) for sample in samples]
        assert together == llava.generate(samples, batch_size=3, **OPTIONS)


@pytest.mark.parametrize("where", ["image", "text", "prompt", "generated"])
def test_a_place_restores_bit_for_bit_and_leaves_nothing(llava, where):
    batch = batch_of(llava, prompts(llava))
    attributes, hooks = dict(vars(llava.hf)), len(llava.hf._forward_pre_hooks)
    before = written(llava, batch, **OPTIONS)[1]
    with hp.HeadEdit(llava.anatomy.heads(), scale=1.0, where=where).applied(llava):
        assert torch.equal(written(llava, batch, **OPTIONS)[1], before)
    with pytest.raises(KeyboardInterrupt), hp.HeadEdit(HEADS, scale=5, where=where).applied(llava):
        raise KeyboardInterrupt
    assert torch.equal(written(llava, batch, **OPTIONS)[1], before)
    assert dict(vars(llava.hf)).keys() == attributes.keys()
    assert len(llava.hf._forward_pre_hooks) == hooks


def test_image_and_text_edits_together_are_an_edit_of_all(llava):
    batch = batch_of(llava, prompts(llava))
    both = hp.HeadEdit(HEADS, scale=SCALE, where="image") + hp.HeadEdit(HEADS, scale=SCALE, where="text")
    with both.applied(llava):
        found = written(llava, batch, **OPTIONS)[1]
    with hp.HeadEdit(HEADS, scale=SCALE).applied(llava):
        assert torch.equal(written(llava, batch, **OPTIONS)[1], found)


def test_a_static_cache_and_a_prompt_in_chunks_know_their_places(llama):
    batch = batch_of(llama, [hp.Sample(tiny.TEXTS[2])])
    for where in ("prompt", "generated"):
        with hp.HeadEdit(HEADS, scale=SCALE, where=where).applied(llama):
            expected = written(llama, batch, **OPTIONS)[0]
            for options in ({"cache_implementation": "static"}, {"prefill_chunk_size": 4}):
                assert torch.equal(written(llama, batch, **OPTIONS, **options)[0], expected)


def test_a_pipeline_is_followed(llama):
    pipe = pipeline("text-generation", model=llama.hf, tokenizer=llama.tokenizer)
    edit = hp.HeadEdit(HEADS, scale=SCALE, where="generated")
    options = {"do_sample": False, "return_full_text": False, **OPTIONS}
    plain = pipe(tiny.TEXTS[0], **options)[0]["generated_text"]
    with edit.applied(llama):
        found = pipe(tiny.TEXTS[0], **options)[0]["generated_text"]
        assert found == llama.generate(tiny.TEXTS[0], **OPTIONS)
    assert found != plain


def test_an_adapted_model_is_followed():
    peft = pytest.importorskip("peft")
    hf = peft.get_peft_model(tiny.hf_model("llama"), peft.LoraConfig(r=2, target_modules=["o_proj"])).eval()
    model, plain = hp.wrap(hf, processor=tiny.tokenizer()), tiny.tiny("llama")
    edit = hp.HeadEdit(HEADS, scale=SCALE, where="generated")
    with edit.applied(model), edit.applied(plain):
        assert model.generate(list(tiny.TEXTS), **OPTIONS) == plain.generate(list(tiny.TEXTS), **OPTIONS)


def test_a_mask_means_the_tokens_of_a_prompt(llama):
    batch = batch_of(llama, [hp.Sample(text) for text in tiny.TEXTS])
    mask = torch.rand(batch.real.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    by_mask = hp.HeadEdit(HEADS, scale=SCALE, where=mask)
    for beams in (1, 3):
        options = {**OPTIONS, "num_beams": beams}
        with by_hand(llama, type(batch)(batch.inputs, batch.real, mask, batch.answer), "image"):
            sequences, logits = written(llama, batch, use_cache=False, **options)
        for cache in (True, False):
            with by_mask.applied(llama):
                found = written(llama, batch, use_cache=cache, **options)
            assert torch.equal(found[0], sequences)
            torch.testing.assert_close(found[1], logits, rtol=1e-4, atol=1e-4)


def test_one_row_of_a_mask_holds_for_texts_of_one_length(llama):
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    mask = torch.tensor([False, True, True, False])

    def logits(where):
        with torch.no_grad(), hp.HeadEdit(HEADS, scale=SCALE, where=where).applied(llama):
            return llama.hf(input_ids=ids).logits

    assert torch.equal(logits(mask), logits(mask.expand(2, -1)))
    assert torch.equal(logits(mask)[:, :1], logits("generated")[:, :1])  # a causal model: nothing before the mask changes


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(3, dtype=torch.bool), "met a prompt of 4 × 14"),
        (torch.ones(3, 14, dtype=torch.bool), "met a prompt of 4 × 14"),
        (torch.ones(14, dtype=torch.bool), "padded to one length"),
    ],
)
def test_a_mask_of_other_tokens_is_refused(llama, mask, message):
    batch = batch_of(llama, [hp.Sample(text) for text in tiny.TEXTS])
    assert batch.real.shape == (4, 14)
    with pytest.raises(hp.HeadPursuitError, match=message), hp.HeadEdit(HEADS, scale=-1, where=mask).applied(llama):
        written(llama, batch, **OPTIONS)


def test_a_mask_is_not_laid_over_a_second_batch(llama):
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    mask = torch.tensor([[True, False, True], [False, True, True]])
    with torch.no_grad(), hp.HeadEdit(HEADS, scale=-1, where=mask).applied(llama):
        assert torch.equal(llama.hf(input_ids=ids).logits, llama.hf(input_ids=ids).logits)
        with pytest.raises(hp.HeadPursuitError, match="a second batch"):
            llama.hf(input_ids=ids.flip(0))


@pytest.mark.parametrize(
    "where", ["middle", torch.ones(2, 2), [0, 1], torch.zeros(3, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool), None]
)
def test_what_is_no_place_is_refused(where):
    with pytest.raises(hp.HeadPursuitError, match="choose one of all, image, text, prompt, generated"):
        hp.HeadEdit(["L0.H0"], scale=-1, where=where)


def test_a_text_model_has_no_image_tokens(llama):
    with pytest.raises(hp.HeadPursuitError, match="takes no images"):
        hp.HeadEdit(HEADS, scale=-1, where="image").applied(llama).__enter__()


def test_what_cannot_be_told_is_refused(llama):
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        cache = llama.hf(input_ids=ids, use_cache=True).past_key_values
        embedded = llama.hf.get_input_embeddings()(ids)
    with hp.HeadEdit(HEADS, scale=-1, where="generated").applied(llama):
        with pytest.raises(hp.HeadPursuitError, match="filled cache outside of generate"):
            llama.hf(input_ids=ids[:, :1], past_key_values=cache)
        with pytest.raises(hp.HeadPursuitError, match="was not told of"):
            llama.hf.model(input_ids=ids)
    with (
        hp.HeadEdit(HEADS, scale=-1, where="text").applied(llama),
        pytest.raises(hp.HeadPursuitError, match="without token ids"),
    ):
        llama.hf(inputs_embeds=embedded)
