"""Image tokens, batches of images of different sizes, and edits, with the real processor of every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image

import headpursuit as hp
import vlm
from headpursuit.model.selfcheck import check_decomposition
from headpursuit.model.tokenize import collate, make_prompt

TEXTS = ("two happy cats", "the flag of France is red", "one sad clown")
WITHOUT_PATCHES = ("mllama",)  # its layers attend to the image from outside the text

WITH_LINE_ENDS = ("llava_onevision",)


@pytest.fixture(params=vlm.FAMILIES)
def family(request) -> str:
    vlm.skip_where_missing(request.param)
    return request.param


@pytest.fixture
def model(family) -> hp.HeadModel:
    return vlm.vlm(family)


def samples(seed: int = 0) -> list[hp.Sample]:
    noise = np.random.default_rng(seed)
    images = [Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in vlm.IMAGE_SIZES]
    return [hp.Sample(text=text, image=image) for text, image in zip(TEXTS, images, strict=True)]


def batch_of(model: hp.HeadModel, chosen: list[hp.Sample], *, side: str = "right"):
    return collate(model, [make_prompt(model, sample) for sample in chosen], side=side)


def embedded(model: hp.HeadModel, chosen: list[hp.Sample]) -> torch.Tensor:
    """What enters the first decoder layer, shape ``(b, t, d)``."""
    kept = []
    first = model.module(model.anatomy.layers[0].attention.rpartition(".")[0])

    def hook(module, args, kwargs):
        kept.append((args[0] if args else kwargs["hidden_states"]).clone())

    handle = first.register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        model.hf(**batch_of(model, chosen).inputs)
    handle.remove()
    return kept[0]


def test_patches_are_where_another_image_changes_what_enters_the_decoder(model, family):
    chosen = samples()
    batch = batch_of(model, chosen)
    entered = embedded(model, chosen)
    changed = (entered - embedded(model, samples(seed=1))).abs().amax(-1) > 0
    assert not (changed & ~batch.image).any()
    line_ends = entered[batch.image & ~changed]  # LLaVA ends every line of patches with one learned vector
    assert len(line_ends) == 0 or (family in WITH_LINE_ENDS and (line_ends == line_ends[0]).all())
    assert batch.image.any(dim=1).all() == (family not in WITHOUT_PATCHES)


def test_heads_add_up_with_images(model):
    assert max(check_decomposition(model).values()) < 1e-5


def test_a_left_padded_batch_of_images_equals_one_by_one(model, family):
    if family == "paligemma" and Version(transformers.__version__) < Version("5.13"):
        pytest.skip("these versions of transformers pad PaliGemma wrongly on the left")
    chosen = samples()
    options = {"max_new_tokens": 4, "min_new_tokens": 4}
    edit = hp.HeadEdit(model.anatomy.heads()[1:], scale=-1.0)
    plain = model.generate(chosen, **options)
    with edit.applied(model):
        together = model.generate(chosen, **options)
        uncached = model.generate(chosen, use_cache=False, **options)
        alone = [model.generate(sample, **options) for sample in chosen]
    assert together == alone == uncached
    assert together != plain


@pytest.mark.parametrize("positions", ["mean", "image"])
def test_a_capture_does_not_see_the_batch(model, family, positions):
    chosen = samples()
    if positions == "image" and family in WITHOUT_PATCHES:
        with pytest.raises(hp.HeadPursuitError, match="no token stands for a patch"):
            hp.capture(model, chosen, positions="image", progress=False)
        return
    together = hp.capture(model, chosen, positions=positions, progress=False)
    alone = hp.capture(model, chosen, positions=positions, batch_size=1, progress=False)
    for layer in together.layers:
        torch.testing.assert_close(together.z[layer], alone.z[layer], rtol=1e-3, atol=1e-4)


def test_cross_attention_layers_want_an_image():
    model = vlm.vlm("mllama")
    assert [layer.kind for layer in model.anatomy.layers].count("cross") == 1
    with pytest.raises(hp.HeadPursuitError, match="attend to an image and did not run"):
        hp.capture(model, list(TEXTS), progress=False)
