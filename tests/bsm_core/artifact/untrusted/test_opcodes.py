from __future__ import annotations

import collections
import contextlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact.untrusted.opcodes import check_opcodes

VALUE = {
    "a": [1, 2.5, None, True, "né" * 300, b"x" * 300, 2**70, -1],
    ("b", (1, (2,))): {frozenset({1, 2}), "c"},
    "arrays": [np.arange(100.0), np.float32(1), np.array(["a"])],
    "dicts": [collections.OrderedDict(a=1), collections.defaultdict(int, b=2)],
}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_every_protocol_pass(protocol):
    pickled = pickle.dumps(VALUE, protocol)
    assert check_opcodes(pickled) == len(pickled)
    assert check_opcodes(b"before" + pickled + b"after", len(b"before")) == len(b"before" + pickled)


@given(data=st.data(), protocol=st.sampled_from(list(PROTOCOLS)))
def test_damaged_pickles_are_no_other_error(data, protocol):
    pickled = bytearray(pickle.dumps(VALUE, protocol))
    for _ in range(data.draw(st.integers(1, 5))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        check_opcodes(bytes(pickled))


@pytest.mark.parametrize(
    ("pickled", "problem"),
    [
        (b"", "damaged"),
        (b"N", "damaged"),
        (b"0.", "damaged"),
        (b"h\x00.", "damaged"),
        (b"(0q\x00.", "damaged"),
        (b"X\xff\xff\xff\x7fab.", "in the middle of a value"),
        (b"Nr\xff\xff\xff\x7f.", "memo index"),
        (b"NNa.", "fills what is no list"),
        (b"]q\x00(h\x00tq\x01cbuiltins\nset\nh\x01R.", "arguments of an earlier call"),
        (b"\x8b" + (2000).to_bytes(4, "little") + bytes(2000) + b".", "an integer of 2,000 bytes"),
        (b")" * 1 + b"\x85" * 51 + b".", "nested more than 50 deep"),
        (b"]" * 1_300_000 + b".", "more than 1,260,000 instructions"),
        (pickle.dumps({i * (2**61 - 1): i for i in range(3_000)}), "too many numbers"),
        (pickle.dumps({(i, i): i for i in range(6_000)}), "too many numbers"),
        (pickle.dumps({float(i): i for i in range(100_001)}), "too many numbers"),
        (pickle.dumps(set(range(10_001)), 2), "too many numbers"),
        (pickle.dumps(set(range(100_001)), 4), "too many numbers"),
        (pickle.dumps({frozenset({(i, i)}) for i in range(6_000)}, 2), "too many numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(pickled, problem):
    with pytest.raises(ValueError, match=problem):
        check_opcodes(pickled)


@pytest.mark.parametrize(
    "value",
    [
        {f"token{i}": i for i in range(1_000_000)},
        dict.fromkeys(range(50_000), 0.5),
        {np.int64(i): np.float64(i) for i in range(5_000)},
        {f"weight{i}": np.zeros((2, 3)) for i in range(5_000)},
    ],
    ids=["vocabulary", "integers", "integers of numpy", "arrays"],
)
def test_large_tables_and_vocabularies_pass(value):
    pickled = pickle.dumps(value)
    assert check_opcodes(pickled) == len(pickled)
