"""An exported GGUF file in llama.cpp itself, against the hooked model; where its Python package is installed."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import pytest

import headpursuit as hp
import tiny

pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")

import gguf_made
from headpursuit.exporting.llama_cpp import opened_by_llama_cpp

EDITS = (
    hp.HeadEdit(["L0.H1", "L1.H2"], scale=-1),
    hp.HeadEdit(["L0.H1", "L1.H2"], scale=0),
    hp.HeadEdit(["L0.H1", "L0.H2", "L1.H2"], scale=[-1, 0.3, 2]),
)


def written(path, texts, n):
    """What llama.cpp writes on, greedily, put into text by the model's tokenizer as ours is."""
    tokenizer, found = tiny.tokenizer(), []
    with closing(opened_by_llama_cpp(path, context=64)) as model:
        for text in texts:
            model.reset()
            tokens = model.tokenize(text.encode(), add_bos=False)
            assert tokens == tokenizer(text)["input_ids"]
            new = list(islice(model.generate(tokens, temp=0.0, repeat_penalty=1.0), n))
            new = new[: new.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in new else new
            found.append(tokenizer.decode(new, skip_special_tokens=True))
    return found


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_llama_cpp_writes_what_the_hooked_model_writes(tmp_path, edit):
    model = hp.load(gguf_made.write(tmp_path / "m.gguf", "F32"), device="cpu")
    hp.export(model, edit, tmp_path / "out.gguf", progress=False)
    texts = list(tiny.TEXTS)
    plain = model.generate(texts, max_new_tokens=8)
    with edit.applied(model):
        hooked = model.generate(texts, max_new_tokens=8)
    assert hooked != plain
    assert written(tmp_path / "out.gguf", texts, 8) == hooked


@pytest.mark.parametrize("edit", EDITS, ids=str)
@pytest.mark.parametrize("kind", gguf_made.KINDS)
def test_llama_cpp_is_as_near_to_the_hooked_model_as_to_the_unedited(tmp_path, kind, edit):
    width = gguf_made.gguf.GGML_QUANT_SIZES[gguf_made.Type[kind]][0]
    path = gguf_made.write(tmp_path / "m.gguf", kind, head_width=max(width, 32))
    hp.export(path, edit, tmp_path / "out.gguf", progress=False)
    found = hp.verify(tmp_path / "out.gguf", list(tiny.TEXTS), device="cpu", progress=False)
    assert found.ok
    export, original = found.llama_cpp
    assert original < 0.03
    assert export <= 2 * original
    assert "llama.cpp's logits: relative difference" in str(found)


def test_a_file_that_is_another_models_is_seen_by_llama_cpp_too(tmp_path):
    path = gguf_made.write(tmp_path / "m.gguf", "F32")
    hp.export(path, EDITS[0], tmp_path / "out.gguf", progress=False)
    (tmp_path / "out.gguf").write_bytes(path.read_bytes())
    found = hp.verify(tmp_path / "out.gguf", list(tiny.TEXTS), device="cpu", progress=False)
    assert not found.ok
    assert found.llama_cpp[0] > 10 * found.llama_cpp[1]
