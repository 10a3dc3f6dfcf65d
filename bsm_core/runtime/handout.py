"""Handing out the items of an iterator to other processes of this machine, each item to the process that asks first."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import AuthenticationError, connection
from types import TracebackType
from typing import Any, NamedTuple, Self

_CLOSE_S = 2.0
"""Seconds in which the generator should end."""
_END = None
"""Answer to a request when nothing is left."""


class Address(NamedTuple):
    """Where a process asks for items.

    Attributes:
        name: Name of a socket of this machine, or a host and a port.
        key: Secret that the process must know.
    """

    name: str | tuple[str, int]
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
        self._lock, self._closed = threading.Lock(), False
        self._maker = ThreadPoolExecutor(1, "bsm-handout")
        key = secrets.token_bytes(32)
        if host is None:
            # A name without a file on Linux, so that a process that is killed leaves none.
            name = f"\0bsm-{os.getpid()}-{secrets.token_hex(8)}" if sys.platform == "linux" else None
            self._listener = connection.Listener(name, "AF_UNIX", backlog=64, authkey=key)
            self.address = Address(name or str(self._listener.address), key)
        else:
            self._listener = connection.Listener(("", 0), "AF_INET", backlog=64, authkey=key)
            self.address = Address((host, self._listener.address[1]), key)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="bsm-handout-accept", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        with suppress(OSError):  # ends the thread that waits for processes
            connection.Client(self.address.name, authkey=self.address.key).close()
        self._listener.close()
        for item in self._made:
            item.cancel()
        closing = self._maker.submit(self._items.close)  # in the thread that runs it
        self._maker.shutdown(wait=False)
        with suppress(TimeoutError):  # it may wait for work itself, for which nobody asks any more
            closing.result(_CLOSE_S)

    def _next(self) -> Any:
        """Return the next item, the error of the generator, or ``_END``."""
        with self._lock:
            while len(self._made) <= self._ahead:
                self._made.append(self._maker.submit(next, self._items, _END))
            item = self._made.popleft()
        return item.exception() or item.result()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):  # the process has ended, or does not know the key
                continue
            threading.Thread(target=self._serve, args=(client,), name="bsm-handout-serve", daemon=True).start()

    def _serve(self, client: connection.Connection[Any, Any]) -> None:
        with client, suppress(EOFError, OSError, CancelledError, RuntimeError):  # the process or the handout has ended
            while client.recv():
                client.send(self._next())


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
