"""An S3 server on this machine, with a proxy before it that cuts connections."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from bsm_core.storage.objects import ObjectPath

KEY, SECRET = "AKIATESTKEY1234567890", "test+secret/ofTheStore"
REFUSAL = f"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId>
<SignatureProvided>0123456789abcdef</SignatureProvided></Error>"""


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server; yield its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str) -> ObjectPath:
    """Make a bucket."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return ObjectPath("s3:", name)


def put_as_it_is(endpoint: str, bucket: ObjectPath, name: str, content: bytes) -> None:
    """Write an object of any name."""
    url = f"{endpoint}/{bucket.parts[1]}/{quote(name)}"
    urllib.request.urlopen(urllib.request.Request(url, content, {"Content-Type": "a/b"}, method="PUT")).close()


def uploads(endpoint: str, bucket: ObjectPath) -> int:
    """Return the number of uploads in parts that were begun and neither completed nor aborted."""
    with urllib.request.urlopen(f"{endpoint}/{bucket.parts[1]}?uploads") as answer:
        return int(answer.read().count(b"<UploadId>"))


def upload(folder: Path, to: ObjectPath) -> ObjectPath:
    """Write the files of a folder as objects."""
    for file in folder.rglob("*"):
        if file.is_file():
            (to / file.relative_to(folder).as_posix()).put(file)
    return to


class Proxy:
    """Proxy before a server.

    Attributes:
        url: Its URL.
        cut: Function of a direction (``"up"`` or ``"down"``), the number of bytes that a connection has sent in it, and
            the bytes that follow now. If it returns True, the connection is cut in the middle of these, after the head
            of an answer.
        connections: Number of connections so far.
        cuts: Number of connections that were cut.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut: Callable[[str, int, bytes], bool] = lambda direction, sent, more: False
        self.connections = self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connections."""
        self._listener.close()

    def cut_once(self, direction: str, after: int) -> None:
        """Cut the next connection that has sent this number of bytes in a direction."""
        left = [True]
        self.cut = lambda way, sent, more: way == direction and sent + len(more) > after and bool(left and left.pop())

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._server)
                for pair in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, direction: str, source: socket.socket, destination: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while more := source.recv(1 << 16):
                if self.cut(direction, sent, more):
                    self.cuts += 1
                    destination.sendall(more[: max(len(more) // 2, more.find(b"\r\n\r\n") + 5)])
                    break
                destination.sendall(more)
                sent += len(more)
        for end in (source, destination):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def refusing_server(status: int = 403, refusal: str = REFUSAL) -> Iterator[str]:
    """Run a server that refuses every request, as S3 refuses a wrong key unless told otherwise; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            content = b"" if self.command == "HEAD" else refusal.encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names of http.server

        def log_message(self, *arguments: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
