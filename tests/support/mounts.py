"""Commands that see another file system in the place of a folder, for which root on Linux is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def seeing_empty(folder: str, size: str = "1m") -> list[str]:
    """Return the start of a command that sees an empty folder, of this size, in the place of another.

    The test is skipped if there is no such folder, or if this process may not mount anything.
    """
    start = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"', "sh"]
    try:
        if Path(folder).is_dir() and not subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
            return start
    except OSError:
        pass
    pytest.skip(f"only root can mount a folder over {folder}")
