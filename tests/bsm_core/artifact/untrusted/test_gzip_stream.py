import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact.untrusted.gzip_stream import GzipStream


def read(compressed, size=-1):
    stream = GzipStream(io.BytesIO(compressed))
    return b"".join(iter(lambda: stream.read(size), b""))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 400), st.integers(0, 3))
def test_members_are_read_as_python_reads_them(contents, size, padding):
    compressed = (b"\0" * padding).join(gzip.compress(content) for content in contents) + b"\0" * padding
    assert read(compressed, size) == read(compressed) == gzip.decompress(compressed) == b"".join(contents)


def test_content_that_is_much_larger_than_a_block():
    content = bytes(range(256)) * 10_000
    assert read(gzip.compress(content * 4)) == content * 4
    assert read(b"".join(gzip.compress(content[i : i + 999], 0) for i in range(0, len(content), 999))) == content


@pytest.mark.parametrize("cut", [0, 5, 12, 20, -1])
def test_a_file_that_ends_too_early(cut):
    with pytest.raises(EOFError):
        read(gzip.compress(b"some content of a file")[:cut])


@pytest.mark.parametrize("damage", [b"no gzip file", gzip.compress(b"x") + b"more"])
def test_bytes_that_are_no_member(damage):
    with pytest.raises(zlib.error):
        read(damage)


def test_a_checksum_that_is_wrong():
    compressed = bytearray(gzip.compress(b"some content"))
    compressed[-8] ^= 1
    with pytest.raises(zlib.error, match="check"):
        read(bytes(compressed))


def test_members_without_content_are_limited():
    assert read(gzip.compress(b"x") + gzip.compress(b"") * 900) == b"x"
    with pytest.raises(ValueError, match="very many gzip members"):
        read(gzip.compress(b"x") + gzip.compress(b"") * 1_100)
