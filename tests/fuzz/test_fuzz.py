"""Mutations of valid files, and bytes without any form. ``make fuzz`` tries millions; see ``tests/fuzz/forever.py``."""

from __future__ import annotations

import pytest
from fuzz.targets import TARGETS, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@st.composite
def mutated(draw, seeds):
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 4))
        data[at : at + cut] = draw(st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b"\r", b",", b".", b"\x00"]))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_reader_raises_our_errors_alone(tmp_path, name, data):
    content = data.draw(mutated(TARGETS[name][1]) | st.binary(max_size=200))
    run(name, content, tmp_path)
