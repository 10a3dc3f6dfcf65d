"""Arrow columns of times that Python cannot hold."""

from __future__ import annotations

import pyarrow as pa

ODD = [
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("ms", "UTC"),
    pa.timestamp("ms", "Europe/Paris"),
    pa.timestamp("ms", "Nowhere/Land"),
    pa.timestamp("us", "Nowhere/\x1b[2JLand"),
    pa.date32(),
    pa.date64(),
    pa.duration("s"),
    pa.time64("us"),
]
"""Types of which some values are beyond Python's range, or whose zone does not exist."""


def odd_times(kind: pa.DataType) -> pa.Array:
    """Return a column: a small value, a value that Python cannot hold, a null."""
    far = 2**31 - 1 if kind.bit_width == 32 else 2**60
    return pa.array([7, far, None], pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
