from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bsm_core.errors import DataError
from bsm_core.runtime.handout import Address, Handout, received


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
        with pytest.raises(multiprocessing.AuthenticationError):
            list(received(Address(handout.address.name, b"wrong")))
        assert [item for _, item in pool.submit(take, handout.address).result(30)] == [1, 2, 3]
