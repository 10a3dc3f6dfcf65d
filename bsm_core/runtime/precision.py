"""Precisions of the text encoders, and how far results in each of them may differ."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Number format of the matrix products in a text encoder; the value is the word of ``--precision``."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


TF32 = "tf32"
"""Precision of float32 weights on a GPU, where convolutions and recurrent layers round their inputs to TF32."""

TOLERANCES: dict[str, float] = {
    Precision.FP32: 1e-4,
    TF32: 1e-3,
    Precision.FP16: 1e-2,
    Precision.BF16: 5e-2,
    Precision.INT8: 0.1,
}
"""Largest difference of a probability in each precision, from the most exact to the least exact.

The difference is measured against the check rows of the artifact, which another machine may have computed, or against
fp32 on the same device. The order of a sum differs between machines, so fp32 is not exact here.
"""

EXACT = 1e-5
"""Largest difference of a number in a chunk's vector between two backends in fp32, on one machine.

In bf16 and fp16 two backends round differently. Their mean difference may be as large as in :data:`TOLERANCES`.
"""

_OF_DTYPES = {"float64": "fp32", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def precision_of_dtype(name: str) -> str:
    """Return the precision of a dtype's name (``"float32"``); any other name is returned unchanged.

    Check rows of earlier versions name dtypes. float64 counts as fp32, which has the smallest tolerance.
    """
    return _OF_DTYPES.get(name, name)


def tolerance(precision: str) -> float:
    """Return the entry of :data:`TOLERANCES`, or the largest one for a precision that has none."""
    return TOLERANCES.get(precision, max(TOLERANCES.values()))
