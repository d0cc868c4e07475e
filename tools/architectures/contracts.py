"""The house's contracts on one model: what they need of it, and which of them it breaks."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from headpursuit.activations.recording import read_batch
from headpursuit.activations.reducers import mean_rows
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import HeadModel, accepted
from headpursuit.model.tokenize import Batch

LENGTHS = (9, 5, 7)
NEW_TOKENS = 3
TOLERANCE = 2e-4  # of the logits' own spread: float32 sums in another order


class BrokenContractError(Exception):
    """Says which contract a model breaks, and by how much."""


def check_all(model: HeadModel) -> None:
    """Run every contract that needs no tokenizer.

    Raises:
        BrokenContractError: naming the first that does not hold.
    """
    scale_one_is_identity(model)
    capture_ignores_padding(model)
    generation_ignores_padding_and_cache(model)


def texts(model: HeadModel, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    """Made-up texts of ordinary token ids, behind an image where the model does not run without one."""
    ids = torch.randint(5, 95, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1)).tolist()
    before = [model.start_token] if model.has_encoder else _image_tokens(model)
    return [before + row[:length] for row, length in zip(ids, lengths, strict=True)]


def inputs_of(model: HeadModel, rows: list[list[int]], *, side: str = "right") -> dict[str, Tensor]:
    """What the model takes: token ids and mask, padded on one side, and what some want beside them."""
    ids, mask = _padded(rows, side=side)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.has_encoder:
        inputs = {"decoder_input_ids": ids, "decoder_attention_mask": mask, **_encoder_inputs(model, rows)}
    if model.takes("token_type_ids"):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    if _image_tokens(model) or _requires(model, "pixel_values") or _reads_images_only(model):
        side_length = _vision_config(model).image_size
        shape = (
            (4, 3, side_length, side_length) if "video_token_index" in vars(model.hf.config) else (3, side_length, side_length)
        )
        if isinstance(side_length, list | tuple):
            shape = (3, *side_length)
        picture = torch.randn(1, *shape, generator=_generator())
        inputs["pixel_values"] = picture.expand(len(rows), *shape)
    if model.takes("image_encoder_embeddings"):
        inputs["pixel_values"] = inputs["pixel_values"][:, None]
        inputs["image_attention_mask"] = mask[..., None]
    if model.takes("qformer_input_ids"):
        inputs["qformer_input_ids"] = torch.full((len(rows), 3), 7)
    if model.takes("image_embeds_position_mask"):
        count = len(_image_tokens(model))
        first = mask.cumsum(1) - 1
        inputs["image_embeds_position_mask"] = mask.bool() & (first < count)
    return inputs


def _padded(rows: list[list[int]], *, side: str) -> Tensor:
    """Ids and mask, shape ``(2, b, t)``."""
    longest = max(map(len, rows))
    padded = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for row, own in enumerate(rows):
        start = longest - len(own) if side == "left" else 0
        padded[0, row, start : start + len(own)] = torch.tensor(own)
        padded[1, row, start : start + len(own)] = 1
    return padded


def _encoder_inputs(model: HeadModel, rows: list[list[int]]) -> dict[str, Tensor]:
    """A text for the encoder (what the decoder has written, backwards), or flat patches, where it takes such."""
    if model.encodes_text:
        ids, mask = _padded([row[::-1] for row in rows], side="right")
        boxes = {"bbox": torch.full((*ids.shape, 4), 0.25)} if model.takes("bbox") else {}
        return {"input_ids": ids, "attention_mask": mask, **boxes}
    if model.takes("flattened_patches"):
        noise = torch.randn(1, 6, model.hf.config.vision_config.patch_embed_hidden_size + 2, generator=_generator())
        noise[..., :2] = torch.arange(1, 7)[:, None]  # row and column
        return {"flattened_patches": noise.expand(len(rows), *noise.shape[1:]), "attention_mask": torch.ones(len(rows), 6)}
    return {}


def _reads_images_only(model: HeadModel) -> bool:
    return model.takes("image_encoder_embeddings") or (
        model.has_encoder and not model.encodes_text and model.takes("pixel_values")
    )


def _vision_config(model: HeadModel) -> Any:
    return getattr(model.hf.config, "vision_config", getattr(model.hf.config, "encoder", None))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def _requires(model: HeadModel, name: str) -> bool:
    parameter = inspect.signature(model.hf.forward).parameters.get(name)
    return parameter is not None and parameter.default is parameter.empty


def _image_tokens(model: HeadModel) -> list[int]:
    config = model.hf.config
    if _requires(model, "qformer_input_ids") or (_requires(model, "pixel_values") and hasattr(config, "num_query_tokens")):
        frames = 4 if hasattr(config, "video_token_index") else 1
        return [100] * config.num_query_tokens * frames
    return [100] * config.latent_query_num if model.takes("pixel_values") and model.takes("image_embeds_position_mask") else []


def scale_one_is_identity(model: HeadModel) -> None:
    """An edit with scale 1 changes no bit, another scale changes the logits, and leaving restores them bit for bit."""
    batch = inputs_of(model, texts(model))

    def logits() -> Tensor:
        with torch.no_grad():
            return model.hf(**batch, **accepted(model.hf.forward, {"use_cache": False})).logits

    before = logits()
    if not torch.isfinite(before).all():
        raise BrokenContractError("the tiny model's logits are not finite")
    with HeadEdit(model.anatomy.heads(), scale=1.0).applied(model):
        same = logits()
    with _edit(model).applied(model):
        edited = logits()
    if not torch.equal(before, same):
        raise BrokenContractError("an edit with scale 1 changes the logits")
    if not torch.equal(before, logits()):
        raise BrokenContractError("leaving an edit does not restore the logits")
    if torch.equal(before, edited):
        raise BrokenContractError("an edit with scale -1 changes nothing")


def capture_ignores_padding(model: HeadModel) -> None:
    """What a capture reads of a text is the same beside longer texts as alone."""
    chosen = texts(model)
    together = _read(model, inputs_of(model, chosen))
    for row, own in enumerate(chosen):
        single = _read(model, inputs_of(model, [own]))
        for name, rows in single.items():
            error = float((rows[0] - together[name][row]).norm() / rows.norm().clamp_min(1e-12))
            if error > TOLERANCE:
                raise BrokenContractError(f"{name} of a padded text differs from the text alone (relative {error:.0e})")


def generation_ignores_padding_and_cache(model: HeadModel) -> None:
    """Under an edit, generation from a batch agrees with one text at a time, with and without a cache.

    The batch is padded on the left, unless the anatomy says that the model cannot: then texts of one length run together.
    """
    chosen = texts(model, LENGTHS if model.anatomy.pads_left else (max(LENGTHS),) * len(LENGTHS))
    batch = inputs_of(model, chosen, side="left")
    try:
        _generate(model, batch, cache=True)
    except HeadPursuitError as error:
        raise BrokenContractError(str(error)) from error
    except Exception as error:
        raise BrokenContractError(
            f"transformers does not generate from made-up texts ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        ) from error
    with _edit(model).applied(model):
        cached, uncached = _generate(model, batch, cache=True), _generate(model, batch, cache=False)
        singles = [_generate(model, inputs_of(model, [own]), cache=True) for own in chosen]
    _compare(cached, uncached, "with and without a cache")
    for row, single in enumerate(singles):
        _compare([step[row : row + 1] for step in cached], single, "left-padded and alone")


def _edit(model: HeadModel) -> HeadEdit:
    heads = model.anatomy.heads()
    return HeadEdit({heads[0], heads[len(heads) // 2], heads[-1]}, scale=-1.0)


def _read(model: HeadModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    real = inputs["decoder_attention_mask" if model.has_encoder else "attention_mask"].bool()
    none = torch.zeros_like(real)
    if model.anatomy.part == "text":  # Mllama's layers that attend across do not run without an image
        on_text = tuple(layer for layer in model.anatomy.layers if layer.kind == "self")
        model = model.with_anatomy(replace(model.anatomy, layers=on_text))
    return read_batch(model, Batch(inputs=inputs, real=real, image=none, answer=none), mean_rows(real))


def _generate(model: HeadModel, inputs: dict[str, Tensor], *, cache: bool) -> list[Tensor]:
    config = copy.deepcopy(model.hf.generation_config)
    config.update(pad_token_id=0, eos_token_id=-1, output_logits=True, return_dict_in_generate=True)
    with torch.no_grad():
        out = model.hf.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, use_cache=cache, generation_config=config)
    model.new_tokens(inputs, out.sequences)
    return list(out.logits)


def _compare(first: list[Tensor], second: list[Tensor], what: str) -> None:
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        finite = torch.isfinite(one) & torch.isfinite(other)
        error = float((one - other)[finite].abs().max() / one[finite].std().clamp_min(1e-12))
        if not error < TOLERANCE:
            raise BrokenContractError(f"logits {what} differ at new token {step} (relative {error:.0e})")
        if not torch.equal(one.argmax(-1), other.argmax(-1)):
            return  # a tie: what follows are other texts
