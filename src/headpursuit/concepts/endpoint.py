"""A language model behind an OpenAI-compatible endpoint: asked politely, again where it stumbles, and never twice."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headpursuit.errors import HeadPursuitError

URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"

# Too many requests, a timeout on their side, or a server that is not itself: worth another try.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0

Message = Mapping[str, Any]


@dataclass
class Endpoint:
    """Where to ask. The key goes into one header of requests to this address and nowhere else.

    Attributes:
        base_url: up to and with the version, such as ``http://127.0.0.1:8000/v1``.
        model: what the endpoint calls the model.
        key: sent as a bearer token; None to send none.
        cache: folder of replies by the hash of what was asked; None to keep none.
        timeout: seconds to wait for a reply.
        per_minute: requests a minute at most.
        attempts: how often one request is tried.
        backoff: seconds before the second attempt, doubled from one to the next; a server's ``Retry-After`` may ask for more.
        asked: requests sent so far.
        recalled: replies taken from the cache so far.

    Raises:
        HeadPursuitError: no address; a key that would cross a network in the clear.
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    cache: Path | None = None
    timeout: float = 120.0
    per_minute: float = 60.0
    attempts: int = 5
    backoff: float = 1.0
    asked: int = field(default=0, init=False)
    recalled: int = field(default=0, init=False)
    _next: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise HeadPursuitError(
                f"{_shown(self.base_url)!r} is no endpoint: give an address like http://127.0.0.1:8000/v1"
            )
        if self.attempts < 1 or not self.per_minute > 0 or not self.timeout > 0:
            raise HeadPursuitError("an endpoint needs at least one attempt, and a timeout and a rate above 0")
        self._local = _is_loopback(parts.hostname)
        if self.key and parts.scheme == "http" and not self._local:
            raise HeadPursuitError(f"{self.base_url}: a key would cross the network in the clear; use https, or no key")

    def ask(self, messages: Sequence[Message], *, max_tokens: int) -> Reply:
        """The model's reply to a chat, from the cache where it was asked before.

        Raises:
            HeadPursuitError: the endpoint refuses, or no attempt gave a reply.
        """
        body = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        name = hashlib.sha256(json.dumps([self.base_url, body], sort_keys=True).encode()).hexdigest()
        file = None if self.cache is None else self.cache / f"{name}.json"
        if file is not None and (known := _recall(file)) is not None:
            self.recalled += 1
            return Reply(known, file, cached=True)
        return Reply(self._send(json.dumps(body).encode()), file, cached=False)

    def _send(self, body: bytes) -> str:
        failure = ""
        for attempt in range(self.attempts):
            wait = self._next - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._next = time.monotonic() + 60 / self.per_minute
            self.asked += 1
            try:
                with self._opener().open(self._request(body), timeout=self.timeout) as answer:
                    return _content(answer.read())
            except urllib.error.HTTPError as error:
                failure = f"HTTP {error.code} {self._excerpt(error)}".strip()
                if error.code not in _PASSING:
                    break
                self._hold(attempt, error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException, _BrokenReplyError) as error:
                # URLError, timeouts and cut connections are all OSErrors but for the last two.
                failure = self._hidden(str(getattr(error, "reason", "") or error) or type(error).__name__)[:200]
                self._hold(attempt, None)
        raise HeadPursuitError(
            f"{self.base_url} gave no reply from {self.model} ({failure}): check address, model, key and rate; "
            "replies so far are kept, so the same command goes on from here"
        )

    def _hold(self, attempt: int, asked_for: str | None) -> None:
        wait = self.backoff * 2**attempt
        if asked_for is not None and asked_for.strip().isdigit():
            wait = max(wait, float(asked_for))
        self._next = max(self._next, time.monotonic() + min(wait, _LONGEST_WAIT))

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "User-Agent": "headpursuit"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return urllib.request.Request(f"{self.base_url}/chat/completions", data=body, headers=headers, method="POST")

    def _opener(self) -> urllib.request.OpenerDirector:
        # A redirect would carry the key to another host.
        handlers: list[Any] = [_NoRedirect()]
        if self._local:
            handlers.append(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener(*handlers)

    def _excerpt(self, error: urllib.error.HTTPError) -> str:
        try:
            text = error.read(2000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        return self._hidden(" ".join(text.split()))[:200]

    def _hidden(self, text: str) -> str:
        """A text without the key, which some servers repeat in their errors."""
        return text.replace(self.key, "[key]") if self.key else text


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        text: its words.
        file: where to keep it, or None.
        cached: whether it comes from there.
    """

    text: str
    file: Path | None
    cached: bool

    def keep(self) -> None:
        """Write the reply to the cache; whoever can read it decides whether it is worth that."""
        if self.file is None or self.cached:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(".part")
        draft.write_text(json.dumps({"reply": self.text}, ensure_ascii=False), encoding="utf-8")
        draft.replace(self.file)


def endpoint_from(
    *, base_url: str | None, model: str, key: str | None = None, cache: Path | None = None, **options: Any
) -> Endpoint:
    """An endpoint by options, or by the environment where they are left out.

    Args:
        base_url: else ``OPENAI_BASE_URL``.
        model: what the endpoint calls the model.
        key: else ``OPENAI_API_KEY``, else none.
        cache: folder for replies.
        options: further fields of :class:`Endpoint`.

    Raises:
        HeadPursuitError: no address is given in either way.
    """
    base_url = base_url or os.environ.get(URL_VARIABLE)
    if not base_url:
        raise HeadPursuitError(f"no endpoint: give its address (--endpoint), or set {URL_VARIABLE}")
    return Endpoint(base_url, model, key=key or os.environ.get(KEY_VARIABLE) or None, cache=cache, **options)


class _BrokenReplyError(Exception):
    """A reply that is not what an OpenAI-compatible endpoint sends."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _content(raw: bytes) -> str:
    try:
        content = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise _BrokenReplyError(f"its answer is no chat completion: {raw[:2000]!r}") from error
    if not isinstance(content, str):
        raise _BrokenReplyError(f"its answer holds no text: {raw[:2000]!r}")
    return content


def _recall(file: Path) -> str | None:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))["reply"]
    except (OSError, ValueError, LookupError, TypeError):
        # Not asked before, or cut off while it was written: ask.
        return None
    return known if isinstance(known, str) else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: str) -> str:
    """An address without a password."""
    return urllib.parse.urlunsplit(
        urllib.parse.urlsplit(url)._replace(netloc=urllib.parse.urlsplit(url).hostname or "")
    )
