"""Chat templates of every make are used as they are written, or refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor

import headpursuit as hp
import tiny
from headpursuit.model.tokenize import make_prompt

IMAGE = Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8))
AS_TEXT = "{% for m in messages %}USER: {{ m['content'] }} ASSISTANT:{% endfor %}"
AS_TEXT_STRICT = "{% for m in messages %}{{ 'USER: ' + m['content'] + ' ASSISTANT:' }}{% endfor %}"
AS_PARTS = (
    "{% for m in messages %}USER: {% for p in m['content'] %}{% if p['type'] == 'image' %}<image>\n{% else %}{{ p['text'] }}"
    "{% endif %}{% endfor %} ASSISTANT:{% endfor %}"
)
WITHOUT_IMAGES = (
    "{% for m in messages %}USER: {% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}{% endfor %}"
)


def llava(template, *, on_tokenizer=False):
    processor = tiny.processor("llava")
    holder = processor
    if on_tokenizer:
        processor.tokenizer = holder = type(processor.tokenizer)(
            tokenizer_object=processor.tokenizer.backend_tokenizer,
            pad_token="<pad>",
            bos_token="<s>",
            eos_token="</s>",
            extra_special_tokens={"image_token": "<image>"},
        )
    holder.chat_template = template
    return hp.wrap(tiny.hf_model("llava"), processor=processor)


def gpt2(template):
    tokenizer = type(tiny.tokenizer())(
        tokenizer_object=tiny.tokenizer().backend_tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template
    return hp.wrap(tiny.hf_model("gpt2"), processor=tokenizer)


@pytest.mark.parametrize("on_tokenizer", [False, True])
@pytest.mark.parametrize("template", [AS_TEXT, AS_TEXT_STRICT, AS_PARTS])
def test_a_template_gets_the_form_that_it_takes(template, on_tokenizer):
    model = llava(template, on_tokenizer=on_tokenizer)
    assert make_prompt(model, hp.Sample("red? {'type': 'text'}")).text == "USER: red? {'type': 'text'} ASSISTANT:"
    assert make_prompt(model, hp.Sample("red?", image=IMAGE)).text == "USER: <image>\nred? ASSISTANT:"
    assert hp.tokens(model, [hp.Sample("red?", image=IMAGE)])[0].image.count(True) == 4


def test_an_image_stands_in_front_where_the_template_leaves_it_out():
    assert make_prompt(llava(WITHOUT_IMAGES), hp.Sample("red?", image=IMAGE)).text == "<image>\nUSER: red?"


@pytest.mark.parametrize("template", [AS_TEXT, AS_PARTS])
def test_tokenizers_alone_take_both_forms(template):
    assert make_prompt(gpt2(template), hp.Sample("red?")).text == "USER: red? ASSISTANT:"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0]['content'] | nothing }}", "nothing"),
        ("{% for m in messages %}", "end of template|endfor"),
        ("{{ messages[3].content.x }}", "undefined|no element"),
        ("USER:", "leaves out what the user says"),
        ({"rag": AS_TEXT, "tool": AS_TEXT}, "."),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(template, reason):
    model = gpt2(template)
    with pytest.raises(hp.HeadPursuitError, match=reason) as caught:
        model.generate("red?")
    assert "\n" not in str(caught.value)
    assert "chat=False" in str(caught.value)
    assert isinstance(model.generate("red?", chat=False, max_new_tokens=2), str)


def test_a_template_that_lies_in_the_tokenizers_configuration_alone_is_used(tmp_path):
    hf, processor = tiny.hf_model("llava"), tiny.processor("llava")
    hf.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": AS_TEXT}))
    model = hp.wrap(hf, processor=AutoProcessor.from_pretrained(tmp_path))
    assert make_prompt(model, hp.Sample("red?", image=IMAGE)).text == "USER: <image>\nred? ASSISTANT:"
