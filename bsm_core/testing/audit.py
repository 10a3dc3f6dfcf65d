"""Audit events of the interpreter (PEP 578) inside a context."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_Listener = Callable[[str, tuple[Any, ...]], None]
_listeners: list[_Listener] = []
_hooked = False
SOCKETS = ("socket.__new__", "socket.connect", "socket.getaddrinfo")
"""Events of code that opens a socket, or looks up a host."""


@contextmanager
def audited(listener: _Listener) -> Iterator[None]:
    """Call a function with the name and the arguments of every audit event inside the context."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_tell)  # an audit hook cannot be removed, so one hook serves all listeners
        _hooked = True
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(event: str, arguments: tuple[Any, ...]) -> None:
    for listener in _listeners:
        listener(event, arguments)
