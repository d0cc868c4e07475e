"""A language model behind an OpenAI-compatible endpoint, asked through the ``openai`` client (the extra ``keywords``).

The client sends, waits and tries again. Here stand the rules that it does not have: where a key may go, how many requests a
minute, which replies count, and a cache of them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headpursuit.errors import HeadPursuitError
from headpursuit.files import read_sealed, write_sealed
from headpursuit.optional import optional_import

if TYPE_CHECKING:
    import httpx2

# Of the files of replies.
FORMAT = 1
URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"
# The client would add headers from the environment and about the machine, which are no business of any server.
_SENT = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
# A chat completion has some thousand bytes.
_LARGEST = 4 * 10**6

Message = Mapping[str, Any]


@dataclass
class Endpoint:
    """An address to ask, with the key for it, which goes into one header of requests to this address and nowhere else.

    Attributes:
        base_url: up to and with the version, such as ``http://127.0.0.1:8000/v1``.
        model: the endpoint's name of the model.
        key: sent as a bearer token, without blanks and line ends around it; None to send none.
        cache: folder of replies by the hash of what was asked; None to keep none.
        timeout: seconds to wait for a whole reply.
        per_minute: requests a minute at most, repeated ones included.
        attempts: how often one request is tried; the wait in between grows, or is what the server's ``Retry-After`` says.
        asked: requests sent so far.
        recalled: replies taken from the cache so far.

    Raises:
        HeadPursuitError: no address; a key that no header can hold, or that would cross a network in the clear.

    Example:
        >>> Endpoint("http://localhost:8000/v1/", "llama", key="secret").base_url
        'http://localhost:8000/v1'
        >>> Endpoint("http://host/v1", "llama", key="secret")
        Traceback (most recent call last):
        headpursuit.errors.HeadPursuitError: http://host/v1: a key would cross the network in the clear; use https, or no key
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    cache: Path | None = None
    timeout: float = 120.0
    per_minute: float = 60.0
    attempts: int = 5
    asked: int = field(default=0, init=False)
    recalled: int = field(default=0, init=False)
    _next: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.strip().rstrip("/")
        scheme, host = _scheme_and_host(self.base_url)
        if self.attempts < 1 or not self.per_minute > 0 or not self.timeout > 0:
            raise HeadPursuitError("an endpoint needs at least one attempt, and a timeout and a rate above 0")
        self.key = (self.key or "").strip() or None
        if self.key and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise HeadPursuitError("the key holds blanks, line ends or letters beyond ASCII; copy it again")
        self._local = _is_loopback(host)
        if self.key and scheme == "http" and not self._local:
            raise HeadPursuitError(f"{self.base_url}: a key would cross the network in the clear; use https, or no key")

    def ask(self, messages: Sequence[Message], *, max_tokens: int) -> Reply:
        """Return the model's reply to a chat at temperature 0, from the cache where it was asked before.

        Raises:
            HeadPursuitError: the endpoint refuses, or no attempt gave a reply.
            MissingExtraError: openai is not installed.
        """
        body = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        name = hashlib.sha256(json.dumps([self.base_url, body], sort_keys=True).encode()).hexdigest()
        file = None if self.cache is None else self.cache / f"{name}.json"
        if file is not None and (known := _recall(file)) is not None:
            self.recalled += 1
            return Reply(known, file, cached=True)
        return Reply(self._send(body), file, cached=False)

    def _send(self, body: Mapping[str, Any]) -> str:
        client, openai = self._client, _library("openai")
        try:
            # Some servers repeat the key, in their answers (which are kept) and in their errors.
            return self._without_key(str(client.chat.completions.create(**body).choices[0].message.content))
        except openai.APIStatusError as error:
            failure = f"HTTP {error.status_code} {error.response.text}"
        except openai.APIConnectionError as error:
            failure = str(error.__cause__ or "") or type(error.__cause__ or error).__name__
        failure = self._without_key(" ".join(failure.split()))
        raise HeadPursuitError(
            f"{self.base_url} gave no reply from {self.model} ({failure[:200].strip()}): check address, model, key and "
            "rate; replies so far are kept, so the same command goes on from here"
        )

    @cached_property
    def _client(self) -> Any:
        # A redirect would carry the key to another host, and a proxy has no part in what stays on this machine.
        http = _bounded_client(self.timeout, self._before, follow_redirects=False, trust_env=not self._local)
        options = {"timeout": self.timeout, "max_retries": self.attempts - 1, "http_client": http}
        # Never the key of the environment: the one to send is put in by _before.
        return _library("openai").OpenAI(base_url=self.base_url, api_key="none", **options)

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key else text

    def _before(self, request: httpx2.Request) -> None:
        """Wait for a request's turn, and leave only those headers that the server needs."""
        for name in set(request.headers) - _SENT:
            del request.headers[name]
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + 60 / self.per_minute
        self.asked += 1


@dataclass(frozen=True)
class Reply:
    """A model's words, and the file that may keep them.

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
        if self.file is not None and not self.cached:
            write_sealed(self.file, {"format": FORMAT, "reply": self.text}, indent=None)


def endpoint_from(*, base_url: str | None, model: str, key: str | None = None, **options: Any) -> Endpoint:
    """Make an endpoint by options, or by the environment where they are left out.

    Args:
        base_url: else ``OPENAI_BASE_URL``.
        model: the endpoint's name of the model.
        key: else ``OPENAI_API_KEY``, else none.
        options: further fields of :class:`Endpoint`.

    Raises:
        HeadPursuitError: no address is given in either way.
    """
    base_url = base_url or os.environ.get(URL_VARIABLE)
    if not base_url:
        raise HeadPursuitError(f"no endpoint: give its address (--endpoint), or set {URL_VARIABLE}")
    return Endpoint(base_url, model, key=key or os.environ.get(KEY_VARIABLE), **options)


def _library(module: str) -> Any:
    return optional_import(module, package="openai", extra="keywords", purpose="asking a language model for words")


def _bounded_client(seconds: float, before: Callable[[httpx2.Request], None], **options: Any) -> httpx2.Client:
    """A client that reads a reply whole, within a time and a size, and counts one that is no chat completion as a failure.

    The library's own limit holds for each read, so that a server that sends a byte now and then is never too slow for it.
    """
    library = _library("httpx2")

    class Client(library.Client):  # type: ignore[misc, name-defined]
        def send(self, request: httpx2.Request, **given: Any) -> httpx2.Response:
            before(request)
            answer: queue.SimpleQueue[httpx2.Response | Exception] = queue.SimpleQueue()
            until = time.monotonic() + seconds

            def read() -> None:
                try:
                    answer.put(_whole(super(Client, self).send(request, **{**given, "stream": True}), until))
                except Exception as error:
                    answer.put(error)

            # A thread that is left waiting must not keep the process from ending.
            threading.Thread(target=read, daemon=True).start()
            try:
                found = answer.get(timeout=seconds)
            except queue.Empty:
                raise library.ReadTimeout(f"no whole reply within {seconds:g} seconds", request=request) from None
            if isinstance(found, Exception):
                raise found
            return _usable(found)

    made: httpx2.Client = Client(**options)
    return made


def _whole(response: httpx2.Response, until: float) -> httpx2.Response:
    """The reply with its content, which is given up as soon as it takes too long or grows too large."""
    library, content = _library("httpx2"), bytearray()
    try:
        for part in response.iter_bytes():
            content += part
            if len(content) > _LARGEST:
                raise library.ReadError(f"its answer is larger than {_LARGEST // 10**6} MB", request=response.request)
            if time.monotonic() > until:
                raise library.ReadTimeout("its answer takes too long", request=response.request)
    finally:
        response.close()
    # What was compressed, or sent in chunks, no longer is.
    headers = [one for one in response.headers.multi_items() if one[0] not in ("content-encoding", "transfer-encoding")]
    whole: httpx2.Response = library.Response(
        response.status_code, headers=headers, content=bytes(content), request=response.request
    )
    return whole


def _usable(response: httpx2.Response) -> httpx2.Response:
    """The reply; one that is no chat completion counts as a broken connection, so that the client asks again."""
    try:
        if response.is_success and not isinstance(response.json()["choices"][0]["message"]["content"], str):
            raise TypeError("no text")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        nonsense = f"its answer is no chat completion: {response.text[:2000]!r}"
        raise _library("httpx2").DecodingError(nonsense, request=response.request) from error
    return response


def _recall(file: Path) -> str | None:
    try:
        known = read_sealed(file, format=FORMAT, what="reply", remedy="ask again")["reply"]
    except (HeadPursuitError, LookupError):
        # Not asked before, or not as it was written here: ask.
        return None
    return known if isinstance(known, str) else None


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        # The port is only looked at when it is asked for.
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        # Keys stand in front of an @, or behind a question mark, and would be shown with the address.
        usable = usable and not any(mark in url for mark in "@?#") and url.isprintable()
    except ValueError:
        usable = False
    if not usable:
        shown = url.rpartition("@")[2].partition("?")[0].partition("#")[0]
        raise HeadPursuitError(f"{shown!r} is no endpoint: give an address like http://127.0.0.1:8000/v1")
    return parts.scheme, parts.hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
