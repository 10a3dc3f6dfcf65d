from __future__ import annotations

import errno
import multiprocessing
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing import connection

import pytest

from bsm_core.errors import DataError, EngineError, SinkError
from bsm_core.runtime import handout as handout_module
from bsm_core.runtime.handout import Address, Handout, handing_back, present, received


def numbers(count, made=None, closed=None):
    try:
        for number in range(1, count + 1):
            if made is not None:
                made.append(number)
            yield number
    finally:
        if closed is not None:
            closed.set()


def failing():
    yield 1
    raise DataError("cannot be read", where="a.csv")


def take(address):
    return [(os.getpid(), item) for item in received(address)]


def test_each_item_goes_to_one_process():
    with Handout(numbers(50), 2) as handout, multiprocessing.get_context("spawn").Pool(2) as pool:
        taken = pool.map(take, [handout.address] * 2, chunksize=1)
    assert sorted(item for some in taken for _, item in some) == list(range(1, 51))


def test_items_are_made_when_they_are_asked_for_and_a_few_ahead():
    made = []
    with Handout(numbers(50, made), 3) as handout:
        assert made == []
        items = received(handout.address)
        assert [next(items) for _ in range(5)] == [1, 2, 3, 4, 5]
        assert len(made) <= 5 + 3


def test_an_error_keeps_its_type_and_the_others_find_nothing():
    with Handout(failing(), 1) as handout:
        items = received(handout.address)
        assert next(items) == 1
        with pytest.raises(DataError, match="cannot be read"):
            next(items)
        assert list(received(handout.address)) == []


def test_the_end_closes_the_generator_and_no_thread_stays():
    closed, before = threading.Event(), threading.active_count()
    with Handout(numbers(50, closed=closed), 2) as handout:
        assert next(received(handout.address)) == 1
    assert closed.is_set()
    for thread in threading.enumerate():
        if thread.name.startswith("bsm-handout"):
            thread.join(10)
    assert threading.active_count() <= before


def test_who_does_not_know_the_key_gets_nothing_and_holds_nothing_up():
    with Handout(numbers(3), 1) as handout, ThreadPoolExecutor(1) as pool:
        with pytest.raises(EngineError, match="could not reach"):
            list(received(Address(handout.address.name, b"wrong")))
        assert [item for _, item in pool.submit(take, handout.address).result(30)] == [1, 2, 3]


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_a_stranger_that_says_nothing_holds_nothing_up_and_is_sent_away(monkeypatch, host):
    monkeypatch.setattr(handout_module, "_HANDSHAKE_S", 0.1)
    with Handout(numbers(3), 1, host) as handout:
        strangers = [connection.Client(handout.address.name) for _ in range(3)]
        assert list(received(handout.address)) == [1, 2, 3]
        for stranger in strangers:
            assert stranger.recv_bytes().startswith(b"#CHALLENGE#")
            with pytest.raises(EOFError):
                stranger.recv_bytes()
            stranger.close()


def test_a_process_that_is_slow_after_the_handshake_stays_connected(monkeypatch):
    monkeypatch.setattr(handout_module, "_HANDSHAKE_S", 0.1)
    with Handout(numbers(3), 1) as handout:
        items = received(handout.address)
        assert next(items) == 1
        threading.Event().wait(0.2)
        assert list(items) == [2, 3]


def test_too_many_open_files_are_waited_for_and_not_spun_on(monkeypatch):
    monkeypatch.setattr(handout_module, "_PAUSE_S", 0.05)
    with Handout(numbers(3), 1) as handout:
        accept, tries = handout._listener.accept, []

        def full():
            tries.append(1)
            if len(tries) < 4:
                raise OSError(errno.EMFILE, "Too many open files")
            return accept()

        monkeypatch.setattr(handout._listener, "accept", full)
        connection.Client(handout.address.name).close()  # the call that was under way
        assert list(received(handout.address)) == [1, 2, 3]
        assert len(tries) < 8


def test_without_unix_sockets_the_work_is_handed_out_over_loopback(monkeypatch):
    listener = connection.Listener

    def refuse(address, family, **options):
        if family == "AF_UNIX":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return listener(address, family, **options)

    monkeypatch.setattr(connection, "Listener", refuse)
    with Handout(numbers(3), 1) as handout:
        assert handout.address.name[0] == "127.0.0.1"
        assert list(received(handout.address)) == [1, 2, 3]


def leave(address, how):
    with suppress(DataError, RuntimeError, OSError, SystemExit), present(address, "process 2 of 3"):
        if how == "dies":
            os._exit(1)
        if how == "ends":
            return
        raise {
            "fails": DataError("line 14"),
            "is cut off": RuntimeError("Connection closed by peer"),
            "cannot read": OSError(errno.EIO, "Input/output error"),
            "exits": SystemExit(0),
        }[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("dies", "process 2 of 3 has ended before all windows were scored"),
        ("fails", "line 14"),
        ("is cut off", "process 2 of 3 failed: RuntimeError: Connection closed by peer"),
        ("cannot read", "process 2 of 3 failed: OSError: [Errno 5] Input/output error"),
        ("exits", "process 2 of 3 has ended before all windows were scored"),
        ("ends", None),
    ],
)
def test_why_a_process_is_lost_is_known(how, said):
    with Handout(numbers(3), 1) as handout:
        process = multiprocessing.get_context("spawn").Process(target=leave, args=(handout.address, how))
        process.start()
        process.join()
        error = handout.failure(0.2 if how in ("is cut off", "ends") else 10)
        assert (error and error.what) == said


def test_a_process_that_fails_is_told_apart_from_those_that_fail_because_of_it():
    with Handout(numbers(3), 1) as handout:
        for how in ("is cut off", "fails", "is cut off"):
            leave(handout.address, how)
        assert handout.failure(10).what == "line 14"


@pytest.mark.parametrize("how", ["dies", "fails", "is cut off", "cannot read", "exits"])
def test_nothing_is_handed_out_any_more_when_a_process_has_failed(monkeypatch, how):
    monkeypatch.setattr(handout_module, "GRACE_S", 0.05)
    with Handout(numbers(9), 1) as handout:
        items, own = received(handout.address), received(handout.address)
        assert [next(items), next(own)] == [1, 2]
        process = multiprocessing.get_context("spawn").Process(target=leave, args=(handout.address, how))
        process.start()
        process.join()
        with handout._changed:
            assert handout._changed.wait_for(lambda: handout.failure() is not None, 10)
        for some in (items, own):
            with pytest.raises((DataError, EngineError), match=r"line 14|process 2 of 3 (has ended|failed)"):
                list(some)


def test_whoever_asks_is_told_the_cause_even_if_what_follows_from_it_was_known_first():
    with Handout(numbers(9), 1) as handout, ThreadPoolExecutor(1) as pool:
        items = received(handout.address)
        assert next(items) == 1
        leave(handout.address, "is cut off")
        with handout._changed:
            assert handout._changed.wait_for(lambda: handout.failure() is not None, 10)
        answer = pool.submit(next, items)  # waits for the cause
        leave(handout.address, "fails")
        with pytest.raises(DataError, match="line 14"):
            answer.result(10)
        assert handout.failure().what == "line 14"


# Connections that cannot be made, or end


def ask(address):
    next(received(address))


def be_present(address):
    with present(address, "process 2 of 3"):
        pass


def hand_back(address):
    with handing_back(address) as give:
        give(1)


WHO = "the process that hands out the work"
USES = pytest.mark.parametrize("use", [ask, be_present, hand_back])


@USES
@pytest.mark.parametrize("how", ["refused", "dropped", "silent", "odd", "unknown"])
def test_a_process_that_cannot_reach_the_handout_says_what_it_could_not_reach(monkeypatch, use, how):
    for name in ("_CONNECT_S", "_HANDSHAKE_S"):
        monkeypatch.setattr(handout_module, name, 0.1)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        name = listener.getsockname()
        if how == "refused":
            listener.close()
        elif how == "dropped":  # as by a firewall: nothing is accepted, and no place is left to wait in
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(name)
        elif how == "odd":
            threading.Thread(target=answer_oddly, args=(listener,), daemon=True).start()
        elif how == "unknown":
            name = ("no-such-host.invalid", name[1])
        with pytest.raises(EngineError, match=f"could not reach {WHO}, at {name[0]}:{name[1]}: .") as caught:
            use(Address(name, b"key"))
    assert f"port {name[1]} of {name[0]}" in caught.value.fix
    assert (use is be_present) == caught.value.what.startswith("process 2 of 3 ")


def answer_oddly(listener):
    other, _ = listener.accept()
    with other, suppress(OSError):
        other.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        other.recv(1000)


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_the_end_of_the_handout_is_an_error_for_people(host):
    with ExitStack() as stack:
        with Handout(numbers(9), 1, host, take=lambda value: None) as handout:
            items, give = received(handout.address), stack.enter_context(handing_back(handout.address))
            assert next(items) == 1
            give(1)
        with pytest.raises(EngineError, match="the process that hands out the work has ended") as caught:
            list(items)
        assert "log of that process" in caught.value.fix
    with pytest.raises(EngineError, match="could not reach"):
        ask(handout.address)


# What comes back


def test_what_is_handed_back_is_taken_before_the_call_returns():
    taken = []
    with Handout(numbers(3), 1, take=taken.append) as handout, handing_back(handout.address) as give:
        for value in received(handout.address):
            give(value * 10)
            assert taken[-1] == value * 10
    assert taken == [10, 20, 30]


def test_what_cannot_be_taken_is_an_error_of_whoever_hands_it_back():
    def take(value):
        raise SinkError("could not be written: No space left on device")

    with (
        Handout(numbers(3), 1, take=take) as handout,
        pytest.raises(SinkError, match="No space left"),
        handing_back(handout.address) as give,
    ):
        give(1)
