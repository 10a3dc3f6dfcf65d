"""Handing out the items of an iterator to other processes of this machine, each item to the process that asks first."""

from __future__ import annotations

import os
import queue
import secrets
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError, connection
from multiprocessing.connection import answer_challenge, deliver_challenge
from types import TracebackType
from typing import Any, NamedTuple, Self

from bsm_core.errors import BSMError, EngineError

_CLOSE_S = 2.0
"""Seconds in which the generator should end."""
_HANDSHAKE_S = 10.0
"""Seconds in which a process that connects must show that it knows the key."""
_PAUSE_S = 0.2
"""Seconds to wait after a connection could not be accepted, most often because too many files are open."""
_END = None
"""Answer to a request when nothing is left."""
_AGAIN = "see the log of that process, and run the same command again: the run goes on where it was"


class Address(NamedTuple):
    """Where a process asks for items.

    Attributes:
        name: Name of a socket of this machine, or a host and a port.
        key: Secret that the process must know.
    """

    name: str | bytes | tuple[str, int]
    key: bytes


class Handout:
    """Server of the items of a generator; a context manager. The generator runs in a thread, from the first request on.

    Args:
        items: The items, which must be picklable and not None. An error that it raises is raised in the process that
            asks; the others find that nothing is left.
        ahead: Number of items that are made before they are asked for.
        host: Name under which other hosts reach this one. None: only processes of this machine ask.

    Attributes:
        address: The address for :func:`received`.
    """

    def __init__(self, items: Generator[Any, None, None], ahead: int, host: str | None = None) -> None:
        self._items, self._ahead = items, ahead
        self._made = deque[Future[Any]]()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._maker = ThreadPoolExecutor(1, "bsm-handout")
        self._failure: BSMError | None = None
        self._failures, self._consequences = queue.SimpleQueue[BSMError](), queue.SimpleQueue[BSMError]()
        self._listener = _listener() if host is None else connection.Listener(("", 0), "AF_INET", backlog=64)
        self._here = self._listener.address if host is None else ("127.0.0.1", self._listener.address[1])
        name = self._here if host is None else (host, self._here[1])
        self.address = Address(name, secrets.token_bytes(32))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="bsm-handout-accept", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        with suppress(OSError):  # ends the thread that waits for processes
            connection.Client(self._here).close()
        self._listener.close()
        for item in self._made:
            item.cancel()
        closing = self._maker.submit(self._items.close)  # in the thread that runs it
        self._maker.shutdown(wait=False)
        with suppress(TimeoutError):  # it may wait for work itself, for which nobody asks any more
            closing.result(_CLOSE_S)

    def _next(self) -> Any:
        """Return the next item, ``_END``, or the error of the generator or of a process that has failed."""
        with self._lock:
            if self._failure:
                return self._failure
            while len(self._made) <= self._ahead:
                self._made.append(self._maker.submit(next, self._items, _END))
            item = self._made.popleft()
        return item.exception() or item.result()

    def failure(self, seconds: float = 0) -> BSMError | None:
        """Return why a process failed within :func:`present`; None if none has.

        Args:
            seconds: How long to wait: other connections of a process may break before this one is seen to.
        """
        for failures, longest in ((self._failures, seconds), (self._consequences, 0)):
            with suppress(queue.Empty):
                return failures.get(timeout=longest)
        return None

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client = self._listener.accept()
            except OSError:
                self._closed.wait(_PAUSE_S)
                continue
            threading.Thread(target=self._serve, args=(client,), name="bsm-handout-serve", daemon=True).start()

    def _serve(self, client: connection.Connection[Any, Any]) -> None:
        """Answer the requests of a process, in a thread of its own: one that says nothing holds up no other."""
        with client, suppress(EOFError, OSError, AuthenticationError, CancelledError, RuntimeError):
            with _in_time(client):
                deliver_challenge(client, self.address.key)
                answer_challenge(client, self.address.key)
            name = None
            try:
                while request := client.recv():
                    if isinstance(request, str):
                        name = request
                    elif isinstance(request, BSMError):
                        self._fail(request)
                    elif isinstance(request, Exception):
                        self._consequences.put(EngineError(str(request), fix=_AGAIN))
                    else:
                        client.send(self._next())
                name = None
            finally:
                if name is not None:
                    self._fail(EngineError(f"{name} has ended before all windows were scored", fix=_AGAIN))

    def _fail(self, error: BSMError) -> None:
        """Remember why a process failed, and let no other begin anything: the work of that one would be missing."""
        self._failure = self._failure or error
        self._failures.put(error)


def _listener() -> connection.Listener:
    """Return a listener for processes of this machine alone."""
    if sys.platform == "linux":
        with suppress(OSError):  # some sandboxes have no Unix sockets
            # A name without a file, so that a process that is killed leaves none.
            return connection.Listener(f"\0bsm-{os.getpid()}-{secrets.token_hex(8)}", "AF_UNIX", backlog=64)
    return connection.Listener(("127.0.0.1", 0), "AF_INET", backlog=64)


@contextmanager
def _in_time(client: connection.Connection[Any, Any]) -> Iterator[None]:
    """Let the connection fail inside the block when nothing comes for ``_HANDSHAKE_S`` seconds."""
    with socket.socket(fileno=os.dup(client.fileno())) as same:
        _limit(same, _HANDSHAKE_S)
        yield
        _limit(same, 0)


def _limit(connected: socket.socket, seconds: float) -> None:
    """Set how long a read may wait; 0: for ever. A timeout of Python's would not hold for the other descriptor."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


@contextmanager
def present(address: Address, name: str) -> Iterator[None]:
    """Be known to a :class:`Handout` by a name, until the end of the block.

    If the block ends with an error, or the process dies in it, :meth:`Handout.failure` returns the error.
    """
    with connection.Client(address.name, authkey=address.key) as server:
        server.send(name)
        try:
            yield
        except Exception as error:
            # A RuntimeError of torch.distributed, for example, says that another process has failed.
            said = (
                error if isinstance(error, BSMError) else Exception(f"{name} failed: {type(error).__name__}: {error}")
            )
            with suppress(OSError):
                server.send(said)
                server.send(_END)
            raise
        with suppress(OSError):  # the handout has ended
            server.send(_END)


def received(address: Address) -> Iterator[Any]:
    """Yield items of a :class:`Handout` in another process, each when it is asked for, until there are none.

    Raises:
        BaseException: The error of the generator of the items.
        ConnectionError, EOFError: The process that hands out has ended.
    """
    with connection.Client(address.name, authkey=address.key) as server:
        while True:
            server.send(True)
            item = server.recv()
            if isinstance(item, BaseException):
                raise item
            if item is _END:
                return
            yield item
