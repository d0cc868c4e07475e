"""A small endpoint on this machine that answers whatever a test has it say."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Replies(BaseHTTPRequestHandler):
    """Answers every request with ``reply``."""

    reply = (
        b'{"choices": [{"message": {"role": "assistant", "content": "{\\"words\\": [\\"cats\\", \\"flag\\", \\"clown\\"]}"}}]}'
    )
    address = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_: object) -> None:
        pass


def server() -> str:
    """The endpoint's address; it is started when it is first asked for."""
    if not Replies.address:
        http = ThreadingHTTPServer(("127.0.0.1", 0), Replies)
        Replies.address = f"http://127.0.0.1:{http.server_port}/v1"
        threading.Thread(target=http.serve_forever, daemon=True).start()
    return Replies.address
