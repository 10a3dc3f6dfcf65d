"""A server on this machine that answers as Google's object store does, with a number for each version of an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from bsm_core.storage.objects import ObjectPath


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, tuple[bytes, int]]

    def _answer(self, status: int, number: int = 0, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{number}"')
        self.send_header("x-goog-generation", str(number))
        self.send_header("Last-Modified", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        number, wanted = self.objects.get(self.path, (b"", 0))[1], self.headers["x-goog-if-generation-match"]
        if wanted not in (None, str(number)):
            self._answer(412)
            return
        self.objects[self.path] = content, number + 1
        self._answer(200, number + 1)

    def do_GET(self) -> None:
        content, number = self.objects.get(self.path, (b"", 0))
        self._answer(200 if number else 404, number, content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self._answer(204 if self.objects.pop(self.path, None) else 404)

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""


@contextmanager
def google_bucket(monkeypatch) -> Iterator[ObjectPath]:
    """Run a server, and set the variables with which obstore finds it; yield an empty bucket."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"objects": {}})) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        account = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**account, "disable_oauth": True}))
        monkeypatch.setenv("GOOGLE_BASE_URL", url)
        yield ObjectPath("gs:", f"bucket-{server.server_address[1]}")  # a store is kept for each name
        server.shutdown()
