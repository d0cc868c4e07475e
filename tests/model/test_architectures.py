"""The table of architectures: what it says of a type is what the type does here and now."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

import headpursuit as hp
import tiny
from architectures.shrink import CAUSAL, IMAGE_TEXT, MAPPINGS, small_model
from architectures.sweep import examine
from headpursuit.model.architectures import PARTLY, REFUSED, STATES, SUPPORTED, as_markdown, load_table

TABLE = load_table()
REPRESENTATIVE = [
    (SUPPORTED, CAUSAL, "bert"),  # the projection stands outside the attention module
    (SUPPORTED, CAUSAL, "bloom"),  # the module adds the residual stream itself
    (SUPPORTED, CAUSAL, "cohere2"),  # parallel blocks
    (SUPPORTED, CAUSAL, "deepseek_v3"),  # values narrower than keys
    (SUPPORTED, CAUSAL, "falcon"),
    (SUPPORTED, CAUSAL, "gemma2"),  # a norm behind the projection
    (SUPPORTED, CAUSAL, "gemma3n_text"),
    (SUPPORTED, CAUSAL, "gpt_bigcode"),  # multi-query
    (SUPPORTED, CAUSAL, "gpt_oss"),
    (SUPPORTED, CAUSAL, "gptj"),
    (SUPPORTED, CAUSAL, "longcat_flash"),  # two attention modules a layer
    (SUPPORTED, CAUSAL, "mixtral"),
    (SUPPORTED, CAUSAL, "mpt"),
    (SUPPORTED, CAUSAL, "opt"),
    (SUPPORTED, CAUSAL, "xlm"),  # positions count padding: texts of one length run together
    (PARTLY, CAUSAL, "bart"),  # cross-attention that nothing inside the model feeds
    (PARTLY, CAUSAL, "blt"),  # transformers itself does not generate from it
    (PARTLY, CAUSAL, "jamba"),
    (PARTLY, CAUSAL, "minimax"),  # attention in name, without a softmax
    (PARTLY, CAUSAL, "qwen3_next"),  # gated
    (REFUSED, CAUSAL, "diffllama"),  # heads are mixed before the projection
    (REFUSED, CAUSAL, "mamba"),
    (REFUSED, CAUSAL, "xlnet"),
    (SUPPORTED, IMAGE_TEXT, "gemma3"),
    (SUPPORTED, IMAGE_TEXT, "idefics3"),
    (SUPPORTED, IMAGE_TEXT, "mllama"),  # layers that attend to the image only
    (SUPPORTED, IMAGE_TEXT, "qwen2_vl"),
    (SUPPORTED, IMAGE_TEXT, "florence2"),  # an encoder reads text and image; cross-attention beside self-attention
    (SUPPORTED, IMAGE_TEXT, "idefics"),  # cross-attention in a stack of its own
    (SUPPORTED, IMAGE_TEXT, "t5gemma2"),  # self- and cross-attention in one softmax
    (REFUSED, IMAGE_TEXT, "diffusion_gemma"),  # writes a whole block at once
]


@pytest.mark.parametrize(("state", "mapping", "name"), REPRESENTATIVE, ids=[f"{name}" for _, _, name in REPRESENTATIVE])
def test_a_type_is_in_the_state_that_the_table_says(state, mapping, name):
    if name not in MAPPINGS[mapping]:
        pytest.skip(f"transformers {transformers.__version__} does not know the type")
    row = examine(name, mapping)
    assert row.state == state, row.reason
    assert row in TABLE.rows, "run `make architectures`"


def test_the_page_is_current():
    page = Path(__file__).parents[2] / "docs" / "architectures.md"
    assert page.read_text() == as_markdown(TABLE), "run `make architectures`"


@pytest.mark.skipif(TABLE.transformers != transformers.__version__, reason="the table is of another transformers")
def test_every_type_is_in_the_table():
    listed = [(row.mapping, row.type) for row in TABLE.rows]
    assert listed == [(mapping, name) for mapping, names in MAPPINGS.items() for name in names]


WITHOUT_SOFTMAX = ("falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm")


def test_nearly_every_type_with_softmax_attention_holds():
    rows = [row for row in TABLE.rows if row.type not in WITHOUT_SOFTMAX]
    held = [row for row in rows if row.state in (SUPPORTED, PARTLY)]
    assert len(held) >= 0.95 * len(rows)


def test_what_is_not_supported_has_a_reason():
    assert all(row.state in STATES and (row.reason or row.state == SUPPORTED) for row in TABLE.rows)


def test_what_is_skipped_is_named_in_a_warning():
    hf = small_model("qwen3_next", CAUSAL)
    with pytest.warns(UserWarning, match=r"skipped are L0, L1: no attention \(Qwen3NextGatedDeltaNet\)"):
        model = hp.wrap(hf, processor=tiny.tokenizer())
    assert [layer.index for layer in model.anatomy.layers] == [2]
