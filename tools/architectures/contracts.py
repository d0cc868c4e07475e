"""The house's contracts on one model: what they need of it, and which of them it breaks."""

from __future__ import annotations

import inspect

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


def tokens(rows: int = len(LENGTHS), length: int = max(LENGTHS)) -> Tensor:
    """Ordinary token ids, none of them special in a tiny model, shape ``(rows, length)``."""
    return torch.randint(5, 95, (rows, length), generator=torch.Generator().manual_seed(1))


def padded(*, side: str) -> dict[str, Tensor]:
    """Three texts of different lengths in one batch."""
    ids, mask = tokens(), torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, -length if side == "left" else 0 : None if side == "left" else length] = 1
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def alone(row: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One row of a batch without its padding."""
    keep = batch["attention_mask"][row].bool()
    return {"input_ids": batch["input_ids"][row, keep][None], "attention_mask": torch.ones(1, int(keep.sum())).long()}


def images(model: HeadModel, rows: int) -> dict[str, Tensor]:
    """One image beside each text, for a model that does not run without."""
    required = [
        name
        for name, parameter in inspect.signature(model.hf.forward).parameters.items()
        if parameter.default is parameter.empty
    ]
    given: dict[str, Tensor] = {}
    if "pixel_values" in required:
        side = model.hf.config.vision_config.image_size
        picture = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
        given["pixel_values"] = picture.expand(rows, -1, -1, -1)
    if "qformer_input_ids" in required:
        given["qformer_input_ids"] = tokens(1).expand(rows, -1)
    return given


def scale_one_is_identity(model: HeadModel) -> None:
    """An edit with scale 1 changes no bit, another scale changes the logits, and leaving restores them bit for bit."""
    batch = padded(side="right")

    def logits() -> Tensor:
        with torch.no_grad():
            return model.hf(**images(model, len(LENGTHS)), **batch).logits

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
    batch = padded(side="right")
    together = _read(model, batch)
    for row in range(len(LENGTHS)):
        single = _read(model, alone(row, batch))
        for name, rows in single.items():
            error = float((rows[0] - together[name][row]).norm() / rows.norm().clamp_min(1e-12))
            if error > TOLERANCE:
                raise BrokenContractError(f"{name} of a padded text differs from the text alone (relative {error:.0e})")


def generation_ignores_padding_and_cache(model: HeadModel) -> None:
    """Under an edit, generation from a batch agrees with one text at a time, with and without a cache.

    The batch is padded on the left, unless the anatomy says that the model cannot: then texts of one length run together.
    """
    full = torch.ones(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    batch = padded(side="left") if model.anatomy.pads_left else {"input_ids": tokens(), "attention_mask": full}
    with _edit(model).applied(model):
        cached, uncached = _generate(model, batch, cache=True), _generate(model, batch, cache=False)
        singles = [_generate(model, alone(row, batch), cache=True) for row in range(len(LENGTHS))]
    _compare(cached, uncached, "with and without a cache")
    for row, single in enumerate(singles):
        _compare([step[row : row + 1] for step in cached], single, "left-padded and alone")


def _edit(model: HeadModel) -> HeadEdit:
    heads = model.anatomy.heads()
    return HeadEdit({heads[0], heads[len(heads) // 2], heads[-1]}, scale=-1.0)


def _read(model: HeadModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    real = inputs["attention_mask"].bool()
    none = torch.zeros_like(real)
    inputs = {**images(model, len(inputs["input_ids"])), **inputs}
    return read_batch(model, Batch(inputs=inputs, real=real, image=none, answer=none), mean_rows(real))


def _generate(model: HeadModel, inputs: dict[str, Tensor], *, cache: bool) -> list[Tensor]:
    with torch.no_grad():
        out = model.hf.generate(
            **images(model, len(inputs["input_ids"])),
            **inputs,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            use_cache=cache,
            pad_token_id=0,
            eos_token_id=-1,
            output_logits=True,
            return_dict_in_generate=True,
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
