from __future__ import annotations

import pytest

from bsm_core.runtime.precision import EXACT, TOLERANCES, Precision, precision_of_dtype, tolerance


def test_every_precision_has_a_tolerance_and_fewer_digits_have_a_larger_one():
    assert set(Precision) <= TOLERANCES.keys()
    assert list(TOLERANCES.values()) == sorted(TOLERANCES.values())
    assert TOLERANCES[Precision.FP32] > EXACT


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float64", "fp32"), ("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("int8", "int8")],
)
def test_the_precision_of_a_dtype_is_a_plain_string(dtype, precision):
    assert precision_of_dtype(dtype) == precision
    assert type(precision_of_dtype(dtype)) is str


def test_an_unknown_precision_has_the_largest_tolerance():
    assert precision_of_dtype("float8_e5m2") == "float8_e5m2"
    assert tolerance("float8_e5m2") == max(TOLERANCES.values())
