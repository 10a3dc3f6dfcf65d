"""Signals that arrive in real processes, whatever becomes of the exception that their handler raises."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from bsm_core.errors import Interrupted
from bsm_core.runtime import signals

pytestmark = pytest.mark.usefixtures("hangup_not_ignored")

HEAD = """
import ctypes, os, signal, sys, threading, time
from bsm_core.runtime import signals
from bsm_core.runtime.signals import at_once, check, interruptible, last_words

def ready():
    print("ready", flush=True)

def stay():
    while True:
        time.sleep(0.01)

def main():
"""
TAIL = """
try:
    main()
except signals.Interrupted as interrupted:
    print("raised", interrupted, type(interrupted.__cause__).__name__, flush=True)
    sys.exit(128 + interrupted.signal)
"""


def send(body, *numbers, before=(), within=5.0):
    """Run a main function, send it signals when it is ready, and return its status and its further lines."""
    code = HEAD + textwrap.indent(textwrap.dedent(body), "    ") + TAIL
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Without a buffer, in which a line that comes with "ready" would stay: communicate() reads past it.
    with subprocess.Popen([*before, sys.executable, "-c", code], bufsize=0, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        for number in numbers:
            process.send_signal(number)
        said, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < within
    assert b"Exception ignored" not in errors
    return process.returncode, said.decode().splitlines()


@pytest.mark.parametrize("number", signals.ENDING)
def test_an_exception_that_is_swallowed_is_not_the_end_of_it(number):
    body = """
        with interruptible(), last_words(lambda interrupted: print("last", interrupted, flush=True)):
            for begin in (ready, stay, stay):
                try:
                    begin()
                    stay()
                except BaseException:
                    pass
    """
    assert send(body, number) == (128 + number, [f"last {number.name}"])


def test_c_code_that_never_returns_holds_nothing_up():
    body = """
        with interruptible():
            ctypes.CDLL(None).system(b"echo ready; exec >&- 2>&-; while kill -0 $PPID; do sleep 0.1; done")
    """
    assert send(body, signal.SIGTERM) == (143, [])


def test_nothing_is_raised_into_an_import_and_the_process_ends_at_once():
    body = """
        with interruptible(), last_words(lambda interrupted: print("first", flush=True)), at_once():
            with last_words(lambda interrupted: print("last", flush=True)):
                ready()
                try:
                    stay()
                except BaseException:
                    print("raised")
    """
    assert send(body, signal.SIGTERM, within=signals.GRACE_S - 1) == (143, ["last", "first"])


@pytest.mark.parametrize("words", ["stay()", "1 / 0", "sys.exit(0)"])
def test_last_words_that_fail_or_never_end_hold_nothing_up(words):
    body = f"""
        with interruptible(), at_once(), last_words(lambda interrupted: {words}):
            ready()
            stay()
    """
    assert send(body, signal.SIGTERM) == (143, [])


def test_what_follows_from_a_signal_is_taken_for_it():
    body = """
        with interruptible():
            try:
                ready()
                stay()
            except BaseException as error:
                raise ImportError("numpy failed to import")
    """
    assert send(body, signal.SIGINT) == (130, ["raised SIGINT ImportError"])


@pytest.mark.parametrize("then", ["check()", "pass"])
def test_a_signal_whose_exception_was_lost_is_raised_again(then):
    body = f"""
        with interruptible():
            try:
                ready()
                stay()
            except BaseException:
                pass
            {then}
    """
    assert send(body, signal.SIGTERM) == (143, ["raised SIGTERM NoneType"])


def test_a_second_signal_does_not_interrupt_the_cleaning_up():
    body = """
        with interruptible():
            try:
                ready()
                stay()
            finally:
                for _ in range(50):
                    time.sleep(0.01)
                print("clean", flush=True)
    """
    status, lines = send(body, signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert lines[0] == "clean"
    assert (status, lines[1].split()[:2]) in [(143, ["raised", "SIGTERM"]), (130, ["raised", "SIGINT"])]


def test_nohup_is_respected():
    body = """
        with interruptible():
            ready()
            stay()
    """
    assert send(body, signal.SIGHUP, signal.SIGTERM, before=["nohup"])[0] == 143


def test_a_signal_to_a_forked_process_is_not_ours():
    body = """
        with interruptible():
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                ready()
                os.write(writer, b"1")
                stay()
            os.read(reader, 1)
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
            print("ended by", os.waitstatus_to_exitcode(status), flush=True)
            signal.raise_signal(signal.SIGINT)
    """
    assert send(body) == (130, ["ended by -15", "raised SIGINT NoneType"])


def test_a_forked_process_that_stays_does_not_hold_the_command_up():
    body = """
        with interruptible():
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            ready()
        print("ended", flush=True)
        os.kill(child, signal.SIGKILL)
    """
    assert send(body) == (0, ["ended"])


def test_a_signal_of_a_library_is_not_ours():
    body = """
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with interruptible():
            signal.raise_signal(signal.SIGCHLD)
            time.sleep(0.1)
            ready()
            stay()
    """
    assert send(body, signal.SIGTERM) == (143, ["raised SIGTERM NoneType"])


def test_without_a_command_there_is_nothing_to_check():
    with signals.at_once(), signals.last_words(print):
        signals.check()
    error = ValueError()
    assert signals.cause_of(error) is error


def test_everything_is_put_back():
    before = [signal.getsignal(number) for number in signals.ENDING]
    with pytest.raises(Interrupted, match="SIGTERM"), signals.interruptible():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), signals.interruptible():
        raise signals.cause_of(ZeroDivisionError())
    assert [signal.getsignal(number) for number in signals.ENDING] == before
    assert signal.set_wakeup_fd(-1) == -1
    signals.check()
