"""Running a model on made-up tokens, images and encoder states, to see what its modules do."""

import inspect
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from headpursuit.hooks import Hooks
from headpursuit.model.anatomy import LayerAnatomy
from headpursuit.model.attention import CROSS
from headpursuit.model.head_model import HeadModel, accepted, evaluating
from headpursuit.model.projection import input_width
from headpursuit.model.samples import Sample
from headpursuit.model.tokenize import collate, make_prompt

# What transformers raises where a model wants more than it is given.
CANNOT_RUN = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
# Rounding of the checkpoint's own dtype, with room for sums over a few thousand terms.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
_STATES = ("cross_attention_states", "encoder_hidden_states", "image_encoder_embeddings")
_N_STATES = 3
_SIDE = 64  # pixels


def tolerance(tensor: Tensor) -> float:
    """Relative error that a tensor's dtype explains."""
    return TOLERANCE.get(tensor.dtype, 1e-5)


def run_decoder(model: HeadModel, *, n_tokens: int, n_padding: int) -> None:
    """Run the text decoder on a made-up text, with padding before it where asked."""
    tokens = torch.arange(1, n_tokens + 1, device=model.device)[None]
    decoder = model.module(model.anatomy.decoder)
    options: dict[str, Any] = {"use_cache": False}
    if n_padding:
        tokens = torch.cat([torch.zeros_like(tokens[:, :n_padding]), tokens], dim=1)
        real = torch.arange(tokens.shape[1], device=tokens.device)[None] >= n_padding
        options["attention_mask"] = real.long()
        if model.takes("position_ids") and not model.has_encoder:  # else generation cannot give any either
            options["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0)
    options |= made_up_states(model, decoder, n_tokens=tokens.shape[1])
    decoder(input_ids=tokens, **accepted(decoder.forward, options))


def made_up_states(model: HeadModel, decoder: nn.Module, *, n_tokens: int) -> dict[str, Tensor]:
    """Something for cross-attention to attend to, where text alone does not reach it or the decoder does not run without."""
    name = next((one for one in _STATES if one in inspect.signature(decoder.forward).parameters), None)
    of_images = name == _STATES[-1]
    if name is None or not (model.anatomy.attends_across or model.has_encoder or of_images):
        return {}
    keys = (
        input_width(module)
        for path, module in decoder.named_modules()
        if CROSS.search(path) and path.rpartition(".")[2].startswith("k")
    )
    width = next((one for one in keys if one is not None), model.anatomy.width)
    states = torch.randn(1, _N_STATES, width, generator=torch.Generator().manual_seed(0)).to(model.device, model.hf.dtype)
    if not of_images:
        return {name: states}
    return {name: states[:, None], "image_attention_mask": torch.ones(1, n_tokens, 1, device=model.device)}


def run_on_image(model: HeadModel) -> Any:
    """Run the whole model on a made-up image, as its processor hands it over, and give back what it returns."""
    noise = torch.randint(0, 256, (_SIDE, _SIDE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sample = Sample(text="a", image=Image.fromarray(noise.numpy()), chat=False, where="a made-up image")
    return model.hf(**collate(model, [make_prompt(model, sample)], side="right").inputs)


def prefix_sees_ahead(model: HeadModel, layer: LayerAnatomy, *, n_tokens: int) -> bool:
    """Whether, in a text of token type 0, the last token changes what a layer reads at the first."""
    if model.has_encoder or not model.takes("token_type_ids"):
        return False
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0][:, 0].detach().clone())

    tokens = torch.arange(1, n_tokens + 1, device=model.device)[None].repeat(2, 1)
    tokens[1, -1] += 1
    try:
        with Hooks() as hooks, torch.no_grad(), evaluating(model.hf):
            hooks.before(model.module(layer.projection), hook)
            model.hf(input_ids=tokens, token_type_ids=torch.zeros_like(tokens))
    except CANNOT_RUN:
        return False
    if not seen:
        return False
    first, second = seen[0]
    return bool((first - second).norm() > tolerance(first) * first.norm())
