"""Signals that end a command: SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed).

Python runs a signal handler in the main thread, between two instructions of the code that runs there. An exception that
the handler raises can get lost: C code that called this code may clear the exception (numpy does while torch imports
it), replace it by an ImportError, or only print it. While C code computes, no handler runs at all.

So the exception is only the first of three ways to end a command, and the one that lets it clean up:

- The handler raises :class:`Interrupted`, once.
- The signal is remembered. :func:`check` raises the exception again, and another exception that ends the command is
  taken for it.
- A thread, which C code cannot hold up, ends the process if the command has not ended after ``GRACE_S`` seconds.

While libraries are imported there is nothing to clean up. There, in :func:`at_once`, the handler does not raise, and
the thread does not wait.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bsm_core.errors import Interrupted

log = logging.getLogger("bsm")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 3.0
"""Seconds between a signal and the end of the process, if the command does not end by itself."""
_LAST_WORDS_S = 1.0
_THE_END = b"\0"
"""Byte that ends the pipe; no signal has its number. A forked process can hold the pipe open, so closing is no end."""

LastWords = Callable[[Interrupted], None]


class _Command:
    """State of the command that this process runs.

    Attributes:
        signal: Number of the first signal that arrived; None if there was none.
        at_once: Whether a signal ends the process at once.
        last_words: Functions that are called before the process is ended without cleaning up, the last one first.
        done: Set when the command has ended.
        before: Handlers of the signals before the command began, by number.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self.last_words: list[LastWords] = []
        self.done = threading.Event()
        self.before: dict[int, Any] = {}

    def handle(self, number: int, frame: Any) -> None:
        """Remember a signal and raise :class:`Interrupted`; runs in the main thread."""
        # Raised once: a second signal, which `timeout` and some shells send, must not interrupt the cleaning up.
        first, self.signal = self.signal is None, self.signal or number
        if first and not self.at_once:
            raise Interrupted(number)

    def watch(self, reader: int) -> None:
        """Wait for a signal, then for the end of the command, and end the process if it does not come.

        Args:
            reader: Descriptor of the pipe that receives the numbers of the signals, and ``_THE_END``.
        """
        while (number := os.read(reader, 1)) != _THE_END and number[0] not in ENDING:
            pass  # a signal of a library, such as SIGCHLD
        if number != _THE_END and not self.done.wait(0 if self.at_once else GRACE_S):
            self._end(number[0])

    def _end(self, number: int) -> None:
        try:
            # In a thread of its own: a full pipe or a network file system may block it.
            speaker = threading.Thread(target=self._speak, args=(Interrupted(number),), daemon=True)
            speaker.start()
            speaker.join(_LAST_WORDS_S)
        finally:
            os._exit(128 + number)

    def _speak(self, interrupted: Interrupted) -> None:
        for words in reversed(self.last_words):
            with suppress(Exception):
                words(interrupted)


_command: _Command | None = None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let signals end the block with :class:`Interrupted`, and at the latest after five seconds the process.

    SIGHUP stays ignored in a process that was started with ``nohup``.

    Raises:
        Interrupted: A signal arrived. The block may have ended with another exception, or without any.
    """
    global _command
    before, command = _command, _Command()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=command.watch, args=(reader,), daemon=True, name="bsm-signals")
    watcher.start()
    previous_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _command = command
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    command.before = {number: signal.signal(number, command.handle) for number in ENDING if number not in ignored}
    process = os.getpid()
    try:
        yield
        check()
    except Exception as error:
        if (cause := cause_of(error)) is error:
            raise
        raise cause from error
    finally:
        if os.getpid() == process:
            for number, handler in command.before.items():
                signal.signal(number, handler)
            _command = before
            signal.set_wakeup_fd(previous_writer)
            command.done.set()
            with suppress(BlockingIOError):  # full of signals: the thread reads no more, or will see one
                os.write(writer, _THE_END)
            watcher.join()
            os.close(writer)
            os.close(reader)


@contextmanager
def interruptible_call() -> Iterator[None]:
    """Let signals end a block that other code than a command runs, as they would end that code.

    Lightning ignores SIGTERM while it predicts, and after Ctrl-C it ends the process and ignores SIGINT for ever. So
    inside the block, these signals raise :class:`Interrupted`. At its end, SIGINT becomes a ``KeyboardInterrupt``, and
    another signal does what it does in this process. Signals that the process handles itself are left alone, and so are
    all of them in another thread than the main one.

    Raises:
        KeyboardInterrupt: SIGINT arrived.
    """
    global _command
    if _command is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _command = command = _Command()
    defaults = (signal.default_int_handler, signal.SIG_DFL)
    command.before = {n: handler for n in ENDING if (handler := signal.getsignal(n)) in defaults}
    for number in command.before:
        signal.signal(number, command.handle)
    try:
        yield
    except Interrupted:
        pass  # raised below as what it is here
    except Exception:
        if command.signal is None:
            raise
    finally:
        for number, handler in command.before.items():
            signal.signal(number, handler)
        _command = None
    if command.signal is not None:
        signal.raise_signal(command.signal)


@contextmanager
def passing_interrupts() -> Iterator[None]:
    """Let a ``KeyboardInterrupt`` out of a block of Lightning, which ends the process and ignores SIGINT for ever."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (SystemExit, ValueError) as error:  # ValueError: Lightning sets a handler, which this thread may not
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if isinstance(error, SystemExit):
            signal.signal(signal.SIGINT, handler)
        raise error.__context__ from None


def _forget() -> None:
    """Take the handlers and the pipe from a process that was forked: its signals are not those of the command."""
    global _command
    if _command is not None:
        signal.set_wakeup_fd(-1)
        for number, handler in _command.before.items():
            signal.signal(number, handler)
        _command = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def at_once() -> Iterator[None]:
    """End the process at once when a signal arrives inside the block, without cleaning up; for imports."""
    if _command is None:
        yield
        return
    before, _command.at_once = _command.at_once, True
    try:
        yield
    finally:
        _command.at_once = before
    check()


@contextmanager
def last_words(words: LastWords) -> Iterator[None]:
    """Call a function before a signal ends the process inside the block without cleaning up.

    Args:
        words: The function. It runs in another thread while the block may still run, and it has one second.
    """
    if _command is None:
        yield
        return
    _command.last_words.append(words)
    try:
        yield
    finally:
        _command.last_words.remove(words)


def check() -> None:
    """Raise :class:`Interrupted` if a signal has arrived, in case that its exception was lost.

    For places where the command is about to take a step that a signal must prevent.
    """
    if _command is not None and _command.signal is not None:
        raise Interrupted(_command.signal)


def cause_of(error: BaseException) -> BaseException:
    """Return :class:`Interrupted` if a signal has arrived, whose consequence the error then is; else the error."""
    if _command is None or _command.signal is None or isinstance(error, Interrupted):
        return error
    return Interrupted(_command.signal)
