"""A Hub on this machine that takes what is uploaded: the few answers that huggingface_hub asks for, over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """What was made and uploaded, by repository."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}


@contextmanager
def hub(*, knows: bool = True) -> Iterator[tuple[str, Hub]]:
    """Its address and what it holds; where it does not know the user, it refuses all."""
    held = Hub()

    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def answer(self, content: object, code: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if not knows:
                self.answer({"error": "Invalid username or password."}, 401)
            elif self.path.startswith("/api/whoami"):
                self.answer({"name": "someone", "type": "user", "orgs": []})
            else:
                self.answer({"id": "someone/edited", "sha": "0" * 40, "siblings": []})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
                held.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
                self.answer({"url": f"{address}/{name}", "name": name})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                self.answer({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]})
            elif "/commit/" in self.path:
                repo = "/".join(self.path.split("/")[3:5])
                for line in body.decode().splitlines():
                    one = json.loads(line)
                    if one["key"] == "file":
                        held.files.setdefault(repo, {})[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                self.answer({"commitUrl": f"{address}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40})
            else:
                self.answer({})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address, held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
