"""Opening models: from folders in the Hub's format, and what is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import headpursuit as hp
import tiny


def test_a_local_folder_opens_in_its_own_dtype(tmp_path):
    tiny.hf_model("qwen2").to(torch.bfloat16).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    model = hp.load(tmp_path, device="cpu")
    assert model.hf.dtype == torch.bfloat16
    assert model.source.folder == tmp_path
    assert not model.hf.training


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-model"])
def test_no_such_model(name):
    with pytest.raises(hp.HeadPursuitError, match="could not be opened as a model"):
        hp.load(name)


def test_a_model_without_a_language_head(tmp_path):
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    config.save_pretrained(tmp_path / "vit")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(hp.HeadPursuitError, match="'clip' has no language-model head"):
        hp.load(tmp_path / "clip")
    with pytest.raises(hp.HeadPursuitError, match="has no language-model head"):
        hp.wrap(BertModel(config), processor=tiny.tokenizer())


def test_wrap_needs_a_processor():
    with pytest.raises(hp.HeadPursuitError, match="no processor for LlamaForCausalLM"):
        hp.wrap(tiny.hf_model("llama"))


def test_a_tokenizer_without_padding_gets_one_and_the_callers_own_stays_as_it_is(tmp_path):
    own = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer().backend_tokenizer, bos_token="<s>", eos_token="</s>")
    tiny.hf_model("llama").save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    model = hp.wrap(tiny.hf_model("llama"), processor=own)
    assert own.pad_token is None
    assert model.tokenizer.pad_token == hp.load(tmp_path, device="cpu").tokenizer.pad_token == "</s>"


def test_generation_takes_one_prompt_or_many_and_images(llava):
    from model.test_contracts import prompts

    samples = prompts(llava)
    many = llava.generate([s.text for s in samples], image=[s.image for s in samples], max_new_tokens=4, min_new_tokens=4)
    one = llava.generate(samples[2].text, image=samples[2].image, max_new_tokens=4, min_new_tokens=4)
    assert many[2] == one
    blind = llava.generate(samples[2].text, max_new_tokens=4, min_new_tokens=4)
    assert blind != one
    with pytest.raises(hp.HeadPursuitError, match="2 prompts but 1 images"):
        llava.generate(["a", "b"], image=[None])


def test_sampling_is_seeded_and_leaves_the_callers_random_state(llama):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    options = {"do_sample": True, "max_new_tokens": 12, "min_new_tokens": 12}
    first = llama.generate("two cats", seed=1, **options)
    assert torch.equal(state, torch.get_rng_state())
    assert llama.generate("two cats", seed=1, **options) == first
    assert llama.generate("two cats", seed=2, **options) != first


def test_a_text_model_refuses_an_image(llama, llava):
    from model.test_contracts import prompts

    with pytest.raises(hp.HeadPursuitError, match="takes no images"):
        llama.generate(prompts(llava)[0])


def test_an_empty_prompt_is_refused(llama):
    with pytest.raises(hp.HeadPursuitError, match="the text is empty"):
        llama.generate("")


def test_the_chat_template_is_used_and_can_be_left_out():
    import copy

    from headpursuit.model.tokenize import make_prompt

    tokens = copy.deepcopy(tiny.tokenizer())
    tokens.chat_template = "{% for m in messages %}<s>[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    model = hp.wrap(tiny.hf_model("llama"), processor=tokens)
    assert make_prompt(model, hp.Sample(text="two cats")).text == "<s>[two cats]>"
    assert make_prompt(model, hp.Sample(text="two cats", chat=False)).text == "two cats"


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    hf = tiny.hf_model("qwen2")
    state = {name: weight for name, weight in hf.state_dict().items() if "layers.1.self_attn.o_proj" not in name}
    hf.save_pretrained(tmp_path, state_dict=state)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(hp.HeadPursuitError, match=r"lacks 1 weights of Qwen2ForCausalLM \(model\.layers\.1\.self_attn\.o_proj"):
        hp.load(tmp_path, device="cpu")


def test_a_model_says_what_it_is_in_one_line(llama, llava):
    assert repr(llama) == (
        "HeadModel(LlamaForCausalLM, text heads: 3 layers × 4 heads of width 8, model width 32, float32 on cpu)"
    )
    assert "\n" not in repr(hp.wrap(llava.hf, llava.processor, part="vision"))


def test_two_views_of_one_model_are_equal(llama):
    same = hp.wrap(llama.hf, llama.processor)
    assert same == llama
    assert hash(same) == hash(llama)
    assert llama != hp.wrap(tiny.hf_model("llama"), llama.processor)
