"""The tokens that a model is reading just now: of the prompt or generated, text or image, before and behind a cache.

A projection's input does not say what its tokens are. The model's own arguments do: the ids of the pass that is running,
how many tokens lie in the cache before it, and how long the prompt was that ``generate`` was given. Both are looked at from
outside, by a hook around ``forward`` and a thin cover around ``generate``, so that a pipeline or an evaluation harness that
calls the model itself is followed as well.
"""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headpursuit.editing.where import TokenMask, Where
from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.head_model import HeadModel
from headpursuit.model.images import patch_tokens


@dataclass
class TokenPass:
    """One forward pass.

    Attributes:
        shape: rows and tokens of the pass, ``(b, t)``.
        start: number of tokens before them, in the cache.
        given: what a user gave: the prompt inside ``generate``, else the pass's own tokens; shape ``(b, t)`` at least.
        generating: whether ``generate`` is running, so that tokens behind ``given`` are its own.
        arguments: what ``forward`` was called with.
        image_token_id: id of the token that stands for an image patch, or None.
        batches: for each mask of several rows the batch that it was first met with.
    """

    shape: tuple[int, int]
    start: int
    given: Tensor = field(repr=False)
    generating: bool
    arguments: Mapping[str, Any] = field(repr=False)
    image_token_id: int | None
    batches: dict[TokenMask, Tensor] = field(repr=False)
    _found: dict[Where, bool | Tensor] = field(default_factory=dict, repr=False)

    def tokens_of(self, where: Where) -> bool | Bool[Tensor, "b t"]:
        """The tokens at which a scale holds: all (True), none (False), or a mask of shape ``(b, t)`` or ``(1, t)``.

        Raises:
            HeadPursuitError: which they are cannot be told in this pass.
        """
        if where not in self._found:
            self._found[where] = self._choose(where)
        return self._found[where]

    def _choose(self, where: Where) -> bool | Tensor:
        if isinstance(where, TokenMask):
            return self._masked(where)
        if where in ("prompt", "generated"):
            of_prompt = self._of_prompt()
            return of_prompt if where == "prompt" else _inverted(of_prompt)
        image = self._of_image()
        return image if where == "image" else _inverted(image)

    def _of_prompt(self) -> bool | Tensor:
        if not self.generating:
            if self.start:
                raise HeadPursuitError(
                    "an edit of prompt or generated tokens met a forward pass on a filled cache outside of generate, where "
                    "nothing says which tokens were generated: use generate, or where='all'"
                )
            return True
        inside = min(max(self.given.shape[1] - self.start, 0), self.shape[1])
        if inside in (0, self.shape[1]):
            return inside > 0
        return (torch.arange(self.shape[1], device=self.given.device) < inside)[None]

    def _of_image(self) -> bool | Tensor:
        of_prompt = self._of_prompt() if self.generating else True
        if of_prompt is False:
            return False  # a token that was generated is no patch, whatever its id
        if self.arguments.get("input_ids") is None:
            raise HeadPursuitError(
                "an edit of image or text tokens met a forward pass without token ids, so which of them are the image's "
                "cannot be told: give input_ids, or use where='all'"
            )
        image = patch_tokens(self.arguments, self.image_token_id)
        return image if of_prompt is True else image & of_prompt

    def _masked(self, mask: TokenMask) -> bool | Tensor:
        rows, tokens = mask.shape
        given_rows, given_tokens = self.given.shape[:2]
        if tokens != given_tokens or rows not in (1, given_rows) or (self.start and not self.generating):
            raise HeadPursuitError(
                f"a mask of {rows} × {tokens} tokens met a prompt of {given_rows} × {given_tokens}"
                f"{f' behind {self.start} in the cache' if self.start and not self.generating else ''}: a mask means "
                "the tokens of one batch, padding included; give one of its shape, or name a group of tokens (where='image', …)"
            )
        if rows > 1 and not torch.equal(self.batches.setdefault(mask, self.given), self.given):
            raise HeadPursuitError(
                f"a mask of {rows} rows met a second batch, in which it would mean other tokens: apply one edit a batch, or "
                "name a group of tokens (where='image', …)"
            )
        if self.start >= tokens:
            return False
        padded = self.arguments.get("attention_mask")
        if rows < given_rows and isinstance(padded, torch.Tensor) and not bool(padded.all()):
            raise HeadPursuitError(
                "one row of a mask met texts that are padded to one length, so that it would mean other tokens in each: "
                f"give a mask of {given_rows} rows"
            )
        wanted = torch.zeros(rows, max(tokens, self.start + self.shape[1]), dtype=torch.bool, device=self.given.device)
        wanted[:, :tokens] = mask.tensor(self.given.device)
        # beam search, and several sequences a prompt, repeat each row in place
        repeats = self.shape[0] // given_rows if rows > 1 else 1
        return wanted[:, self.start : self.start + self.shape[1]].repeat_interleave(repeats, dim=0)


@dataclass
class TokenTracker:
    """Follows what a model reads, from outside.

    Attributes:
        model: the model that is followed.
        running: the pass that is running, or None.
    """

    model: HeadModel
    running: TokenPass | None = None
    _generating: bool = False
    _prompt: Tensor | None = None
    _batches: dict[TokenMask, Tensor] = field(default_factory=dict, repr=False)

    def current(self, z: Tensor) -> TokenPass:
        """The pass that a projection's input ``(b, t, c)`` belongs to.

        Raises:
            HeadPursuitError: none runs that this tracker has seen, or it has other tokens.
        """
        if self.running is None or tuple(z.shape[:2]) != self.running.shape:
            seen = "a pass that it was not told of" if self.running is None else f"{self.running.shape} tokens"
            raise HeadPursuitError(
                f"{self.model.source.architecture}: an edit of chosen tokens met {tuple(z.shape[:2])} tokens in {seen}, so "
                "which they are cannot be told; use where='all'"
            )
        return self.running

    def enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at a pass before it runs."""
        arguments = {"input_ids": args[0], **kwargs} if args else kwargs
        ids = arguments.get("input_ids")
        given = ids if ids is not None else arguments.get("inputs_embeds")
        if given is None:
            self.running = None
            return
        cache = arguments.get("past_key_values")
        start = 0 if cache is None else int(cache.get_seq_length())
        rows, tokens = given.shape[:2]
        mask = arguments.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] != start + tokens:
            raise HeadPursuitError(
                f"{self.model.source.architecture}: {tokens} tokens behind {start} in the cache do not make the "
                f"{mask.shape[1]} of the attention mask, so which tokens are edited cannot be told; use where='all'"
            )
        if self._generating and self._prompt is None:
            self._prompt = given
        self.running = TokenPass(
            shape=(rows, tokens),
            start=start,
            given=given if self._prompt is None else self._prompt,
            generating=self._generating,
            arguments=arguments,
            image_token_id=self.model.anatomy.image_token_id,
            batches=self._batches,
        )

    def leave(self, *_: Any) -> None:
        """Forget a pass once it is over, or was broken off."""
        self.running = None

    @contextmanager
    def generating(self, prompt: Int[Tensor, "b t"] | None) -> Iterator[None]:
        """Count what comes behind a prompt as generated; without one, what comes behind the first pass."""
        before = self._generating, self._prompt
        self._generating, self._prompt = True, prompt
        try:
            yield
        finally:
            self._generating, self._prompt = before


@contextmanager
def tracked(model: HeadModel) -> Iterator[TokenTracker]:
    """Follow a model inside a ``with`` block; leaving it takes every trace away."""
    tracker = TokenTracker(model)
    inner = cast("Any", model.hf)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    own = vars(inner).get("generate")
    plain = inner.generate

    @functools.wraps(plain)
    def generate(*args: Any, **kwargs: Any) -> Any:
        named = (kwargs.get(name) for name in ("inputs_embeds", "input_ids", "inputs"))
        with tracker.generating(next((one for one in (*named, *args[:1]) if one is not None), None)):
            return plain(*args, **kwargs)

    with Hooks() as hooks:
        hooks.before(inner, tracker.enter, with_kwargs=True)
        hooks.after(inner, tracker.leave, always_call=True)
        inner.generate = generate
        try:
            yield tracker
        finally:
            if own is None:
                del inner.generate
            else:
                inner.generate = own


def _inverted(mask: bool | Tensor) -> bool | Tensor:
    return not mask if isinstance(mask, bool) else ~mask
