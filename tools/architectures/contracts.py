"""The house's contracts on one model: what they need of it, and which of them it breaks."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace

import torch
from torch import Tensor

from headpursuit.activations.capture import read_batch
from headpursuit.activations.reading import mean_rows
from headpursuit.editing.edit import HeadEdit
from headpursuit.model.batching import Batch
from headpursuit.model.head_model import HeadModel

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
    return [_image_tokens(model) + row[:length] for row, length in zip(ids, lengths, strict=True)]


def inputs_of(model: HeadModel, rows: list[list[int]], *, side: str = "right") -> dict[str, Tensor]:
    """What the model takes: token ids and mask, padded on one side, and what some want beside them."""
    longest = max(map(len, rows))
    ids, mask = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for row, own in enumerate(rows):
        start = longest - len(own) if side == "left" else 0
        ids[row, start : start + len(own)] = torch.tensor(own)
        mask[row, start : start + len(own)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.takes("token_type_ids"):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    if _image_tokens(model) or _requires(model, "pixel_values"):
        side_length = model.hf.config.vision_config.image_size
        shape = (
            (4, 3, side_length, side_length)
            if "video_token_index" in vars(model.hf.config)
            else (3, side_length, side_length)
        )
        picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
        inputs["pixel_values"] = picture.expand(len(rows), *shape)
    if model.takes("qformer_input_ids"):
        inputs["qformer_input_ids"] = torch.full((len(rows), 3), 7)
    if model.takes("image_embeds_position_mask"):
        count = len(_image_tokens(model))
        first = mask.cumsum(1) - 1
        inputs["image_embeds_position_mask"] = mask.bool() & (first < count)
    return inputs


def _requires(model: HeadModel, name: str) -> bool:
    parameter = inspect.signature(model.hf.forward).parameters.get(name)
    return parameter is not None and parameter.default is parameter.empty


def _image_tokens(model: HeadModel) -> list[int]:
    config = model.hf.config
    if _requires(model, "qformer_input_ids") or (
        _requires(model, "pixel_values") and hasattr(config, "num_query_tokens")
    ):
        frames = 4 if hasattr(config, "video_token_index") else 1
        return [100] * config.num_query_tokens * frames
    return (
        [100] * config.latent_query_num
        if model.takes("pixel_values") and model.takes("image_embeds_position_mask")
        else []
    )


def scale_one_is_identity(model: HeadModel) -> None:
    """An edit with scale 1 changes no bit, another scale changes the logits, and leaving restores them bit for bit."""
    batch = inputs_of(model, texts(model))

    def logits() -> Tensor:
        with torch.no_grad():
            return model.hf(**batch).logits

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
    real = inputs["attention_mask"].bool()
    none = torch.zeros_like(real)
    on_text = tuple(layer for layer in model.anatomy.layers if layer.kind == "self")
    model = model.with_anatomy(replace(model.anatomy, layers=on_text))
    return read_batch(model, Batch(inputs=inputs, real=real, image=none, answer=none), mean_rows(real))


def _generate(model: HeadModel, inputs: dict[str, Tensor], *, cache: bool) -> list[Tensor]:
    config = copy.deepcopy(model.hf.generation_config)
    config.update(pad_token_id=0, eos_token_id=-1, output_logits=True, return_dict_in_generate=True)
    with torch.no_grad():
        out = model.hf.generate(
            **inputs,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            use_cache=cache,
            generation_config=config,
        )
    return list(out.logits)


def _compare(first: list[Tensor], second: list[Tensor], what: str) -> None:
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        finite = torch.isfinite(one) & torch.isfinite(other)
        error = float((one - other)[finite].abs().max() / one[finite].std().clamp_min(1e-12))
        if not error < TOLERANCE:
            raise BrokenContractError(f"logits {what} differ at new token {step} (relative {error:.0e})")
        if not torch.equal(one.argmax(-1), other.argmax(-1)):
            return  # a tie: what follows are other texts
