"""How a model writes on: greedy, with one beam and without penalties, but for what is asked for."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.model.loaded import LoadedModel

# What a checkpoint says of its tokens and caches is a part of the model; all else is a way of choosing tokens.
_OF_THE_MODEL = frozenset({"suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "use_cache", "cache_implementation"})
_NEUTRAL = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
_DEFAULT_NEW_TOKENS = 32
_OF_DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_INSTEAD = {
    **dict.fromkeys(
        ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"),
        "what comes back is text alone; call the transformers model's own generate inside the edit",
    ),
    "max_length": "a prompt's length would count; give max_new_tokens",
    "min_length": "a prompt's length would count; give min_new_tokens",
    **dict.fromkeys(("input_ids", "inputs", "inputs_embeds", "attention_mask"), "prompts are tokenized here; leave it out"),
}


def as_asked(
    model: LoadedModel, *, max_new_tokens: int | None, options: Mapping[str, Any]
) -> tuple[GenerationConfig, dict[str, Any]]:
    """What transformers' ``generate`` is to go by, and those options that are none of its configuration.

    Args:
        model: the model, of whose own configuration only that counts which says nothing of how tokens are chosen.
        max_new_tokens: how many tokens to write at most; what ``generation_config`` says, or 32, when left out.
        options: what a user asks for; a ``generation_config`` among them holds where no other option speaks.

    Raises:
        HeadPursuitError: an option has no meaning here, or a value that transformers refuses.
    """
    own, asked = cast("Any", model.hf).generation_config, options.get("generation_config")
    if asked is not None and not isinstance(asked, GenerationConfig):
        raise HeadPursuitError(f"generation_config={asked!r:.60}: give a transformers.GenerationConfig")
    wanted = {} if asked is None else {name: value for name, value in asked.to_diff_dict().items() if value is not None}
    wanted |= {name: value for name, value in options.items() if name != "generation_config"}
    for name, instead in _INSTEAD.items():
        if wanted.get(name) is not None and wanted[name] is not False:
            raise HeadPursuitError(f"{name}={wanted[name]!r:.40}: {instead}")
    for name in _OF_DRAWING:
        if options.get(name) is not None and "do_sample" not in wanted:
            raise HeadPursuitError(
                f"{name} says how tokens are drawn, and none is unless asked: give do_sample=True, or leave it out"
            )
    check_counts(max_new_tokens=max_new_tokens, **{name: wanted.get(name) for name in ("num_beams", "num_return_sequences")})
    config = _plain(own)
    try:
        more = config.update(**wanted)
    except (TypeError, ValueError) as error:
        raise HeadPursuitError(_refused(error)) from error
    config.max_new_tokens = max_new_tokens or config.max_new_tokens or _DEFAULT_NEW_TOKENS
    config.pad_token_id = model.padding_id
    if config.stop_strings is not None:
        more["tokenizer"] = model.tokenizer
    return config, more


def _plain(own: GenerationConfig) -> GenerationConfig:
    known = GenerationConfig().to_dict()
    kept = {
        name: value
        for name, value in own.to_dict().items()
        if value is not None and (name not in known or name.endswith("_token_id") or name in _OF_THE_MODEL)
    }
    return GenerationConfig(**{**kept, **_NEUTRAL})


@contextmanager
def generating_by(hf: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Let a model generate by a configuration, and give it its own back.

    Handing it over is not enough: transformers fills what it leaves open from the model's own.
    """
    inner = cast("Any", hf)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    own, inner.generation_config = inner.generation_config, config
    try:
        yield
    finally:
        inner.generation_config = own


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed whatever is drawn inside, and leave the caller's random state as it was."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def written_by(
    hf: PreTrainedModel, inputs: Mapping[str, Tensor], config: GenerationConfig, *, max_new_tokens: int, **more: Any
) -> Tensor:
    """The ids ``(b, t)`` of prompts and what the model writes behind them.

    Raises:
        HeadPursuitError: transformers refuses the options.
    """
    config = copy.deepcopy(config)
    config.max_new_tokens = max_new_tokens
    if config.min_new_tokens is not None:
        config.min_new_tokens = min(config.min_new_tokens, max_new_tokens)
    try:
        return cast("Any", hf).generate(**inputs, generation_config=config, **more)
    except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        raise HeadPursuitError(_refused(error)) from error


def _refused(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"transformers cannot generate so ({reason:.200}): see the options of its generate"
