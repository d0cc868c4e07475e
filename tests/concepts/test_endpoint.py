"""Endpoints that stumble: a server on loopback that refuses, stalls and talks nonsense, on purpose."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from headpursuit.concepts.endpoint import Endpoint, endpoint_from
from headpursuit.errors import HeadPursuitError

ASKED = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret"


def completion(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class Server:
    """Plays a script: one ``(status, headers, body)`` a request, or a number of seconds to stall first; the last one stays."""

    def __init__(self, *script):
        self.script, self.seen, self.times = list(script), [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, dict(self.headers), json.loads(body)))
                outer.times.append(time.monotonic())
                turn = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                if isinstance(turn, float):
                    time.sleep(turn)
                    return
                status, headers, text = turn
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    started = []

    def start(*script):
        started.append(Server(*script))
        return started[-1]

    yield start
    for one in started:
        one.http.shutdown()
        one.http.server_close()


def quick(url, **options):
    return Endpoint(url, "m", **{"per_minute": 1e6, **options})


def test_what_is_asked_and_what_is_sent(server):
    one = server(completion("hi"))
    assert quick(one.url + "/", key=KEY).ask(ASKED, max_tokens=7).text == "hi"
    path, headers, body = one.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "m", "messages": ASKED, "max_tokens": 7, "temperature": 0}
    quick(one.url).ask(ASKED, max_tokens=7)
    assert "Authorization" not in one.seen[1][1]


@pytest.mark.parametrize(
    "stumble",
    [(429, {}, "slow down"), (503, {}, ""), (200, {}, "{broken"), (200, {}, '{"choices": []}'), 1.0],
    ids=["429", "503", "broken JSON", "no choices", "too slow"],
)
def test_it_asks_again(server, stumble):
    one = server(stumble, stumble, completion("at last"))
    assert quick(one.url, timeout=0.3).ask(ASKED, max_tokens=7).text == "at last"
    assert len(one.seen) == 3


def test_waiting_grows_and_the_server_may_ask_for_more(server):
    one = server((503, {}, ""), (503, {}, ""), (429, {"Retry-After": "3"}, ""), completion("hi"))
    quick(one.url).ask(ASKED, max_tokens=7)
    gaps = [later - earlier for earlier, later in pairwise(one.times)]
    assert gaps[0] >= 0.35
    # The first wait is half a second at most.
    assert gaps[1] >= 0.7
    # The third wait would be 2 seconds at most.
    assert gaps[2] >= 3


def test_the_rate_is_kept(server):
    one = server(completion("hi"))
    endpoint = quick(one.url, per_minute=300)
    for number in range(4):
        endpoint.ask([{"role": "user", "content": str(number)}], max_tokens=7)
    assert one.times[-1] - one.times[0] >= 3 * 0.2 - 0.02


def test_the_rate_holds_for_requests_that_are_sent_again(server):
    one = server((429, {"Retry-After": "0.01"}, ""), completion("hi"))
    endpoint = quick(one.url, per_minute=60)
    assert endpoint.ask(ASKED, max_tokens=7).text == "hi"
    assert one.times[1] - one.times[0] >= 0.98
    assert endpoint.asked == 2


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        ((401, {}, f'{{"error": "bad key {KEY}"}}'), 1, r"HTTP 401 .*bad key \[key\]"),
        ((404, {}, "no such model"), 1, "HTTP 404 no such model"),
        ((302, {"Location": "http://127.0.0.1:9/"}, ""), 1, "HTTP 302"),
        ((500, {}, f"oops {KEY}"), 3, r"HTTP 500 oops \[key\]"),
        ((200, {}, KEY), 3, "no chat completion"),
        ((200, {}, '{"choices": [{"message": {"content": null}}]}'), 3, "no chat completion"),
    ],
)
def test_it_gives_up_in_one_line_without_the_key(server, answer, tries, message):
    one = server(answer)
    with pytest.raises(HeadPursuitError, match=message) as caught:
        quick(one.url, key=KEY, attempts=3).ask(ASKED, max_tokens=7)
    assert len(one.seen) == tries
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_redirect_is_not_followed(server):
    other = server(completion("stolen"))
    one = server((307, {"Location": f"{other.url}/chat/completions"}, ""))
    with pytest.raises(HeadPursuitError, match="HTTP 307"):
        quick(one.url, key=KEY).ask(ASKED, max_tokens=7)
    assert other.seen == []


def test_loopback_goes_past_a_proxy_and_what_the_environment_holds_stays_here(server, monkeypatch):
    one, proxy = server(completion("hi")), server(completion("overheard"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nX-Mine: {KEY}")
    assert quick(one.url).ask(ASKED, max_tokens=7).text == "hi"
    assert proxy.seen == []
    (_, headers, _), *_ = one.seen
    assert not {"authorization", "openai-organization", "x-mine"} & {name.lower() for name in headers}
    assert KEY not in str(headers)
    quick(one.url, key="other").ask(ASKED, max_tokens=7)
    assert one.seen[1][1]["Authorization"] == "Bearer other"


def test_another_machine_is_asked_through_the_proxy(server, monkeypatch):
    proxy = server(completion("hi"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
    assert quick("http://models.invalid/v1").ask(ASKED, max_tokens=7).text == "hi"
    assert proxy.seen[0][0] == "http://models.invalid/v1/chat/completions"


@pytest.mark.parametrize("key", [f"{KEY}\r\n", f" {KEY} ", f"{KEY}\r"])
def test_blanks_around_a_key_are_not_sent_and_do_not_show_it(server, key):
    one = server(completion("hi"), (401, {}, f"bad key {KEY}"))
    endpoint = quick(one.url, key=key)
    endpoint.ask(ASKED, max_tokens=7)
    assert one.seen[0][1]["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(HeadPursuitError, match=r"bad key \[key\]") as caught:
        endpoint.ask(ASKED, max_tokens=7)
    assert KEY not in str(caught.value)


def test_nobody_there():
    with pytest.raises(HeadPursuitError, match="gave no reply from m"):
        quick("http://127.0.0.1:9/v1", attempts=2).ask(ASKED, max_tokens=7)


def test_the_cache_answers_by_what_was_asked_and_holds_no_key(server, tmp_path):
    one = server(completion("hi"), completion("other"))
    reply = quick(one.url, key=KEY, cache=tmp_path / "c").ask(ASKED, max_tokens=7)
    reply.keep()
    again = quick(one.url, cache=tmp_path / "c")
    assert again.ask(ASKED, max_tokens=7).text == "hi"
    assert (again.asked, again.recalled, len(one.seen)) == (0, 1, 1)
    assert again.ask(ASKED, max_tokens=8).text == "other"
    (file,) = (tmp_path / "c").iterdir()
    assert KEY not in file.read_text()
    assert KEY not in file.name
    assert KEY not in repr(quick(one.url, key=KEY))
    # A file that was cut off is as good as none.
    file.write_text('{"rep')
    assert quick(one.url, cache=tmp_path / "c").ask(ASKED, max_tokens=7).text == "other"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "ftp://host/v1"}, "is no endpoint"),
        ({"base_url": "https://user:pass@host/v1"}, "is no endpoint"),
        ({"base_url": "https://:pass@host/v1"}, "is no endpoint"),
        ({"base_url": "https://user:pass@host:port/v1"}, "is no endpoint"),
        ({"base_url": "https://user:pass@[host/v1"}, "is no endpoint"),
        ({"base_url": "user:pass@host/v1"}, "is no endpoint"),
        ({"base_url": "https://host/v1?key=pass"}, "is no endpoint"),
        ({"base_url": "https://host/v1#pass"}, "is no endpoint"),
        ({"base_url": "https://host/v1", "key": f"{KEY}\r\nX-Other: 1"}, "copy it again"),
        ({"base_url": "https://host/v1", "key": f"{KEY}é"}, "copy it again"),
        ({"base_url": "http://example.org/v1", "key": KEY}, "in the clear"),
        ({"base_url": "http://127.0.0.1/v1", "attempts": 0}, "at least one attempt"),
    ],
)
def test_wrong_addresses_are_refused(options, message):
    with pytest.raises(HeadPursuitError, match=message) as caught:
        Endpoint(model="m", **options)
    assert "pass" not in str(caught.value)
    assert "user" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_environment_stands_in(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(HeadPursuitError, match="set OPENAI_BASE_URL"):
        endpoint_from(base_url=None, model="m")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.org/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = endpoint_from(base_url=None, model="m")
    assert (made.base_url, made.key) == ("https://example.org/v1", KEY)
    assert endpoint_from(base_url="https://other.org/v1", model="m", key="k").key == "k"


class Raw:
    """A server on loopback that answers with whatever bytes it is given, for as long as they are taken."""

    def __init__(self, *parts, pause=0.0):
        self.sent = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, args=(parts, pause), daemon=True).start()

    def _serve(self, parts, pause):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                for part in parts:
                    connection.sendall(part)
                    self.sent += len(part)
                    time.sleep(pause)


HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DRIPPING = {
    "content": [HEADERS + b"Content-Length: 100000\r\n\r\n", *([b" "] * 100)],
    "headers": [HEADERS, *([b"X: y\r\n"] * 100)],
}


@pytest.mark.parametrize("what", DRIPPING)
def test_an_endpoint_that_drips_is_given_up(what):
    one = Raw(*DRIPPING[what], pause=0.1)
    started = time.monotonic()
    with pytest.raises(HeadPursuitError, match=r"no whole reply within 0\.5 seconds|takes too long|timed out"):
        quick(one.url, timeout=0.5, attempts=2).ask(ASKED, max_tokens=7)
    assert time.monotonic() - started < 5
    one.socket.close()


def test_an_endpoint_that_sends_without_end_is_given_up():
    # Gigabytes, were they read; in chunks, so that no length is told.
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    one = Raw(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", *([chunk] * 3000))
    with pytest.raises(HeadPursuitError, match="larger than 4 MB"):
        quick(one.url, timeout=20, attempts=1).ask(ASKED, max_tokens=7)
    assert one.sent < 50e6
    one.socket.close()


def test_a_small_reply_that_unpacks_to_a_large_one_is_given_up():
    packed = gzip.compress(b" " * 10**8)
    one = Raw(HEADERS + f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed)
    with pytest.raises(HeadPursuitError, match="larger than 4 MB"):
        quick(one.url, timeout=20, attempts=1).ask(ASKED, max_tokens=7)
    one.socket.close()


def test_a_key_that_a_reply_repeats_is_not_kept(server, tmp_path):
    one = server(completion(f"your key is {KEY}"))
    reply = quick(one.url, key=KEY, cache=tmp_path / "c").ask(ASKED, max_tokens=7)
    reply.keep()
    assert reply.text == "your key is [key]"
    (file,) = (tmp_path / "c").iterdir()
    assert KEY not in file.read_text()
