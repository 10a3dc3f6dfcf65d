"""Writing files: errors of the system for people."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsm_core.errors import BSMError, SinkError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(destination: Path) -> Iterator[None]:
    """Turn errors of the operating system into one that says what could not be written.

    Args:
        destination: File or folder that the block writes. A file inside it is named if the system names it; other
            files are temporary.

    Raises:
        SinkError: The operating system reported an error.
    """
    try:
        yield
    except BSMError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text is longer
        inside = error.filename and Path(os.fsdecode(error.filename)).is_relative_to(destination)
        raise SinkError(
            f"could not be written: {reason}",
            where=os.fsdecode(error.filename) if inside else str(destination),
            fix=("free space there, or " * (error.errno in _FULL)) + "choose a destination that can be written to",
        ) from error
