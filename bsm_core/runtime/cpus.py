"""Number of CPU cores that this process may use: its affinity, and the CPU quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    A container with a quota, as ``docker run --cpus 2.5`` makes it, sees all cores of its host. Linux stops threads
    that use more than the quota for most of the time, so the quota counts, rounded up.
    """
    # sched_getaffinity does not exist on macOS.
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([seen, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """Return the quota, in cores, of each control group in which this process is and which has one.

    The files are described in the kernel's "Control Group v2" (``cpu.max``) and "CFS Bandwidth Control" (version 1).
    """
    for group in _groups():
        with suppress(OSError, ValueError):  # no such file, or "max": no quota
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota = (group / "cpu.cfs_quota_us").read_text()
            if int(quota) > 0:
                yield int(quota) / int((group / "cpu.cfs_period_us").read_text())


def _groups() -> Iterator[Path]:
    """Return the folders of the control groups of the process that can have a quota, and of all groups around them."""
    with suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            # A container often sees its own group as the root of the hierarchy, at whatever path the line names.
            root = _GROUPS / controllers
            group = root / path.strip("/")
            yield from (group, *(parent for parent in group.parents if parent.is_relative_to(root)))
