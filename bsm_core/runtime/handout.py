"""Handing out the items of an iterator to other processes, each item to the process that asks first.

The processes are on this machine, or on other hosts. They can hand back what they have made of the items.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
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
"""Seconds in which two processes that connect must show each other that they know the key."""
_CONNECT_S = 30.0
"""Seconds in which a connection to another host must be made."""
GRACE_S = 5.0
"""Seconds to wait for the cause after a failure that most likely follows from another one."""
_PAUSE_S = 0.2
"""Seconds to wait after a connection could not be accepted, most often because too many files are open."""
_END = None
"""Answer to a request when nothing is left."""
_AGAIN = "see the log of that process, and run the same command again: the run goes on where it was"
_SERVER = "the process that hands out the work"


class _Made(NamedTuple):
    """Message of a process that hands back what it has made."""

    value: Any


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
        take: Function that takes what is handed back. Several threads call it. An error that it raises is raised in
            the process that handed back.

    Attributes:
        address: The address for :func:`received`, :func:`present` and :func:`handing_back`.
    """

    def __init__(
        self,
        items: Generator[Any, None, None],
        ahead: int,
        host: str | None = None,
        take: Callable[[Any], None] | None = None,
    ) -> None:
        self._items, self._ahead, self._take = items, ahead, take
        self._made = deque[Future[Any]]()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._maker = ThreadPoolExecutor(1, "bsm-handout")
        self._cause: BSMError | None = None
        self._consequence: BSMError | None = None
        self._changed = threading.Condition()  # the two above
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
        if self.failure():  # the work of that process would be missing
            return self.failure(GRACE_S)
        with self._lock:
            while len(self._made) <= self._ahead:
                self._made.append(self._maker.submit(next, self._items, _END))
            item = self._made.popleft()
        return item.exception() or item.result()

    def failure(self, seconds: float = 0) -> BSMError | None:
        """Return why a process failed within :func:`present`; None if none has.

        Args:
            seconds: How long to wait for a cause. A process whose connection to another one broke may be seen before
                the other one, whose failure is the cause.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cause, seconds)
            return self._cause or self._consequence

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
                    elif isinstance(request, Exception):
                        self._fail(request)
                    elif isinstance(request, _Made):
                        client.send(self._taken(request.value))
                    else:
                        client.send(self._next())
                name = None
            finally:
                if name is not None:
                    self._fail(EngineError(f"{name} has ended before all windows were scored", fix=_AGAIN))

    def _taken(self, value: Any) -> Exception | None:
        """Let what was handed back be taken; return the error that is raised."""
        try:
            if self._take is not None:
                self._take(value)
        except Exception as error:  # noqa: BLE001 - raised in the process that handed back
            return error
        return None

    def _fail(self, error: Exception) -> None:
        """Remember the first failure, and the first that follows from another one."""
        with self._changed:
            if isinstance(error, BSMError):
                self._cause = self._cause or error
            else:
                self._consequence = self._consequence or EngineError(str(error), fix=_AGAIN)
            self._changed.notify_all()


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
def _connected(address: Address, who: str) -> Iterator[connection.Connection[Any, Any]]:
    """Connect to a :class:`Handout`.

    Args:
        address: Its address.
        who: Name of this process in messages.

    Raises:
        EngineError: It cannot be reached.
    """
    what, fix = f"{who} could not reach {_SERVER}", _AGAIN
    if isinstance(address.name, tuple):
        host, port = address.name
        what = f"{what}, at {host}:{port}"
        fix = (
            f"let {socket.gethostname()} connect to port {port} of {host}, where the process must still run; the system"
            " chooses another port for each run, so allow those of net.ipv4.ip_local_port_range"
        )
    try:
        if isinstance(address.name, tuple):
            with socket.create_connection(address.name, _CONNECT_S) as made:
                made.settimeout(None)
                server: connection.Connection[Any, Any] = connection.Connection(made.detach())
        else:
            server = connection.Client(address.name)
    except OSError as error:
        raise EngineError(f"{what}: {error.strerror or error}", fix=fix) from error
    with server:
        try:
            with _in_time(server):
                answer_challenge(server, address.key)
                deliver_challenge(server, address.key)
        except (OSError, EOFError, AssertionError, AuthenticationError) as error:  # another program may listen there
            raise EngineError(f"{what}: no process of this run answers there", fix=fix) from error
        yield server


def _answer(server: connection.Connection[Any, Any], request: Any) -> Any:
    """Send a request, and return the answer.

    Raises:
        EngineError: The process that hands out has ended.
        Exception: The answer is an error.
    """
    try:
        server.send(request)
        answer = server.recv()
    except (OSError, EOFError) as error:
        raise EngineError(f"{_SERVER} has ended before all windows were scored", fix=_AGAIN) from error
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextmanager
def present(address: Address, name: str) -> Iterator[None]:
    """Be known to a :class:`Handout` by a name, until the end of the block.

    If the block ends with an error, or the process dies in it, :meth:`Handout.failure` returns the error.

    Raises:
        EngineError: The process that hands out cannot be reached.
    """
    with _connected(address, name) as server:
        with suppress(OSError):  # the handout has ended, which whoever asks it for work is told
            server.send(name)
        try:
            yield
        except Exception as error:
            with suppress(OSError):
                server.send(_said(error, name))
                server.send(_END)
            raise
        with suppress(OSError):
            server.send(_END)


def _said(error: Exception, name: str) -> Exception:
    """Return what is said of an error of a process: a :class:`BSMError` only if it is no consequence of another one."""
    if isinstance(error, BSMError):
        return error
    what = f"{name} failed: {type(error).__name__}: {error}"
    # A RuntimeError of torch.distributed, for example, says that another process has failed.
    return Exception(what) if isinstance(error, RuntimeError) else EngineError(what, fix=_AGAIN)


def received(address: Address) -> Iterator[Any]:
    """Yield items of a :class:`Handout` in another process, each when it is asked for, until there are none.

    Raises:
        EngineError: The process that hands out cannot be reached or has ended, or another process has failed.
        BaseException: The error of the generator of the items.
    """
    with _connected(address, f"process {os.getpid()}") as server:
        while (item := _answer(server, True)) is not _END:
            yield item


@contextmanager
def handing_back(address: Address) -> Iterator[Callable[[Any], None]]:
    """Return a function that hands a value back to a :class:`Handout`, and waits until it is taken.

    Raises:
        EngineError: The process that hands out cannot be reached or, raised by the function, has ended.
    """
    with _connected(address, f"process {os.getpid()}") as server:
        yield lambda value: _answer(server, _Made(value))
