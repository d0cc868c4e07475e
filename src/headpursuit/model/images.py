"""The form in which a processor takes images, and the tokens of their patches; found by asking the processor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

# Attributes by which processors name what stands for an image in a text: Gemma's differs from what its patches become.
_NAMED_PLACEHOLDERS = ("boi_token", "image_token")
_POSITION_MASK = "image_embeds_position_mask"  # KOSMOS-2 marks patches instead of giving them a token of their own


@dataclass(frozen=True)
class ImageStyle:
    """The form in which a processor takes images.

    Attributes:
        placeholder: what stands for an image in a text; empty where the processor puts the image's tokens there itself.
        nested: whether images go in one list a text, or all in one list.
    """

    placeholder: str
    nested: bool

    def arrange(self, images: Sequence[Any]) -> list[Any]:
        """One image (or None) a text, as the processor takes them."""
        if self.nested:
            return [[] if image is None else [image] for image in images]
        return [image for image in images if image is not None]


def find_image_style(
    processor: Any, image_token_id: int | None, *, beside_text: bool = True, across: bool = False
) -> ImageStyle | None:
    """Try on a blank image how the processor wants to be asked.

    Args:
        processor: a processor, or a tokenizer, which takes no images.
        image_token_id: the token that stands for a patch, where there is one.
        beside_text: whether images come with texts, and not alone, as to an encoder of images.
        across: whether the text attends to images from outside, so that it is enough that an image arrives.

    Returns:
        The first style that puts an image's tokens into the text; else, for a text that attends across, the first with which
        an image arrives; None when there is neither.
    """
    if getattr(processor, "image_processor", None) is None:
        return None
    if not beside_text:
        return ImageStyle(placeholder="", nested=False)
    named = [getattr(processor, name, None) for name in _NAMED_PLACEHOLDERS]
    own = [] if image_token_id is None else [processor.tokenizer.convert_ids_to_tokens(image_token_id)]
    blank = Image.new("RGB", (64, 64))
    arriving = None
    for placeholder in dict.fromkeys(["", *(str(one) for one in (*named, *own) if one)]):
        for nested in (True, False):
            style = ImageStyle(placeholder, nested)
            try:
                encoded = processor(text=[f"{placeholder}\na"], images=style.arrange([blank]), return_tensors="pt")
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
                continue
            if patch_tokens(encoded, image_token_id).any():
                return style
            if across and arriving is None and "pixel_values" in encoded:
                arriving = style
    return arriving


def patch_tokens(encoded: Mapping[str, Any], image_token_id: int | None) -> Bool[Tensor, "b t"]:
    """Tokens that an image's features replace, in what a processor returned."""
    if _POSITION_MASK in encoded:
        return encoded[_POSITION_MASK].bool()
    ids = encoded["input_ids"]
    return torch.zeros_like(ids, dtype=torch.bool) if image_token_id is None else ids == image_token_id
