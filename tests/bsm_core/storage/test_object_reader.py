from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.storage import object_reader
from bsm_core.storage.object_reader import ObjectReader

CONTENT = bytes(range(256)) * 20


class Fetched(list[tuple[int, int]]):
    """The ranges that were read."""

    def __call__(self, start: int, end: int) -> memoryview:
        self.append((start, end))
        return memoryview(CONTENT)[start:end]

    @property
    def sizes(self) -> list[int]:
        return [end - start for start, end in self]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(object_reader, "_FIRST_BYTES", 16)
    monkeypatch.setattr(object_reader, "BLOCK_BYTES", 256)


@pytest.fixture
def fetched():
    return Fetched()


STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 700)),
    st.tuples(st.just("into"), st.integers(1, 700)),
    st.tuples(st.just("seek"), st.integers(0, len(CONTENT) + 10)),
    st.tuples(st.just("end"), st.integers(-700, 0)),
)


@settings(max_examples=50)
@given(steps=st.lists(STEPS, max_size=30), stop=st.none() | st.integers(0, 2 * len(CONTENT)))
def test_a_reader_is_a_file(steps, stop):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_reader, "_FIRST_BYTES", 16)
        patch.setattr(object_reader, "BLOCK_BYTES", 256)
        fetched = Fetched()
        reader, file = ObjectReader(fetched, len(CONTENT), stop), io.BytesIO(CONTENT)
        for step, number in steps:
            if step == "read":
                assert reader.read(number) == file.read(number)
            elif step == "into":
                buffer = bytearray(number)
                found = reader.readinto(buffer)
                assert buffer[:found] == file.read(found)
                assert found > 0 or file.read(1) == b""
            else:
                assert reader.seek(number, 2 if step == "end" else 0) == file.seek(number, 2 if step == "end" else 0)
            assert reader.tell() == file.tell()
        assert all(0 <= start < end <= len(CONTENT) for start, end in fetched)


def test_ranges_grow_while_they_follow_each_other(fetched):
    reader = ObjectReader(fetched, len(CONTENT))
    while reader.read(10):
        pass
    assert fetched.sizes[:6] == [16, 32, 32, 64, 128, 256]
    assert max(fetched.sizes) == 256
    assert [start for start, _ in fetched] == [0, *(end for _, end in fetched[:-1])]
    assert fetched[-1][1] == len(CONTENT)


def test_no_more_is_read_than_the_first_bytes_and_what_was_asked_for(fetched):
    reader = ObjectReader(fetched, len(CONTENT))
    reader.read(3)
    for place in (1000, 100, 4000):
        reader.seek(place)
        reader.read(100)
    assert fetched == [(0, 16), (1000, 1100), (100, 200), (4000, 4100)]


def test_nothing_after_the_stop_is_read_ahead(fetched):
    reader = ObjectReader(fetched, len(CONTENT), stop=1000)
    reader.seek(500)
    while reader.tell() < 1000:
        reader.read(50)
    assert fetched[-1][1] == 1000
    assert sum(fetched.sizes) == 500


def test_an_error_of_a_range_that_was_read_ahead_is_raised_when_the_range_is_needed():
    def fetch(start, end):
        if start >= 48:
            raise ValueError(start)
        return memoryview(CONTENT)[start:end]

    reader = ObjectReader(fetch, len(CONTENT))
    assert reader.read(48) == CONTENT[:48]
    with pytest.raises(ValueError, match="48"):
        reader.read(1)
