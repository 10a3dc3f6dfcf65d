from __future__ import annotations

import itertools
import random
import string
import time
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_times import ODD, odd_times

from bsm_core.tables.id_counts import IdCounts


def counts(folder, *pieces, **options):
    with closing(IdCounts(folder, **options)) as ids:
        for piece in pieces:
            ids.add(pa.chunked_array([piece]))
        return ids.counted()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], (0, 0)),
        ([pa.array([], pa.binary())], (0, 0)),
        ([pa.array([b"a", b"", b"b", None]), pa.array([b"a", b"a", b"", b"c"])], (3, 2)),
        ([pa.array(["a", "b", None, "", "a"], pa.string_view())], (2, 1)),
        ([pa.array([b"a", None, b"a"], pa.binary_view())], (1, 1)),
        ([pa.array([1, None, 1, -1])], (1, 1)),
        ([pa.array(["x", "y", "x"]).dictionary_encode()], (0, 1)),
        ([pa.array([[1], [2], [1], None])], (1, 1)),
        ([pa.nulls(2)], (2, 0)),
        ([pa.array([b"0" * 16, b"1" * 16, b"0" * 16, None], pa.uuid())], (1, 1)),
        (
            [
                pa.array([b"0" * 16], pa.uuid()),
                pa.DictionaryArray.from_arrays([0, 0], pa.array([b"0" * 16], pa.uuid())),
            ],
            (0, 2),
        ),
        ([pa.array([[1], None]).cast(pa.list_(pa.timestamp("s", "Nowhere/Land")))], (1, 0)),
        ([pa.array([pa.MonthDayNano([1, 2, 3])] * 2)], (0, 1)),
    ],
    ids=lambda value: str(value[0].type) if value and isinstance(value, list) else "",
)
def test_missing_and_repeated_ids(tmp_path, pieces, expected):
    assert counts(tmp_path, *pieces) == expected


@pytest.mark.parametrize("kind", ODD, ids=str)
def test_times_that_have_no_text_are_counted(tmp_path, kind):
    column = odd_times(kind)
    assert counts(tmp_path, column, column.slice(1).dictionary_encode()) == (2, 1)


@pytest.mark.parametrize(
    "form",
    [
        "user-eu{}-id{}-nr{}",
        "SHELF-0{}BOX{}ROW{}",
        "xxxxxxx{}yyy{}yyy{}",
        "aaaaaaa{}aaa{}aaa{}",
        "{}0000000{}0000000{}",
    ],
)
def test_ids_in_an_order_have_different_hashes(tmp_path, form):
    signs = string.digits + string.ascii_letters
    ids = [form.format(*place) for place in itertools.product(signs, repeat=3)]
    assert counts(tmp_path, pa.array(ids)) == (0, 0)


@pytest.mark.parametrize("order", ["<u8", ">u8"])
@pytest.mark.parametrize("bit", [0, 29, 53])
def test_numbers_in_bytes_have_different_hashes(tmp_path, bit, order):
    numbers = np.arange(512, dtype=np.uint64) << np.uint64(bit)
    pairs = np.stack(np.meshgrid(numbers, numbers), axis=-1).astype(order)
    ids = pa.array([pair.tobytes() for pair in pairs.reshape(-1, 2)], pa.binary(16))
    assert counts(tmp_path, ids) == (0, 0)


def test_bytes_of_zero_count(tmp_path):
    ids = [b"a", b"b", *(b"a" + bytes(n) for n in range(1, 20)), *(bytes(n) for n in range(1, 20)), b"\0a"]
    assert counts(tmp_path, pa.array(ids)) == (0, 0)


def test_many_ids_in_a_file_and_in_passes_of_bounded_size(tmp_path):
    numbers = [random.Random(0).randrange(3000) for _ in range(5000)]
    pieces = [pa.array([b"id-%d" % number for number in numbers[start : start + 100]]) for start in range(0, 5000, 100)]
    assert counts(tmp_path, *pieces, at_once=64) == (0, 5000 - len(set(numbers)))
    assert list(tmp_path.iterdir()) == []


def test_long_ids_of_many_lengths_take_little_time(tmp_path):
    long = [b"x" * length + b"%d" % (length % 7) for length in range(255, 4000)]
    began = time.process_time()
    assert counts(tmp_path, pa.array([*long, b"y" * 30_000_000, *long[::2]])) == (0, len(long[::2]))
    assert time.process_time() - began < 2


@given(st.lists(st.binary(max_size=20)), st.lists(st.binary(max_size=20)))
def test_counts_equal_those_of_a_set(tmp_path_factory, one, other):
    pieces = [pa.array([b"?", *ids, b"?"], pa.binary())[1:-1] for ids in (one, other)]
    ids = [value for value in one + other if value]
    expected = (len(one + other) - len(ids), len(ids) - len(set(ids)))
    assert counts(tmp_path_factory.getbasetemp(), *pieces) == expected
