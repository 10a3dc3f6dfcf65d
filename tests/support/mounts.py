"""Commands that see another file system in the place of a folder, for which root on Linux is needed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
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


def in_container(user: int, read_only: Mapping[str, Path], writable: Mapping[str, Path]) -> list[str]:
    """Return the start of a command that sees these files and folders alone in ``/opt``, and runs as another user.

    The user can read whatever root can, because the interpreter of the tests may lie in the home folder of root. The
    user writes as others do, and nothing of the environment is left.

    The test is skipped if this process may not mount anything or become another user.

    Args:
        user: Number of the user and of the group.
        read_only, writable: The file or folder that is seen at each path, which is in ``/opt``.
    """
    lines = ["set -e", "mount -t tmpfs tmpfs /opt"]
    for target, source in {**read_only, **writable}.items():
        make = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p {Path(target).parent} && touch {target}"
        lines += [make, f"mount --bind {shlex.quote(str(source))} {target}"]
        lines += [f"mount -o remount,bind,ro {target}"] if target in read_only else []
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    become += [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    script = "\n".join([*lines, "cd /", f'exec {shlex.join(become)} env -i "$@"'])
    start = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if os.geteuid():
        pytest.skip("only root can become another user")
    try:
        tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"needs unshare: {error}")
    if tried.returncode:
        pytest.skip(f"cannot mount folders and become another user: {tried.stderr.strip()}")
    return start
