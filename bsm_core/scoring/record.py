"""The run record, which is the content of ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bsm_core.artifact.provenance_file import ComponentRecord
from bsm_core.plugins.hookspecs import Committed
from bsm_core.runtime.versions import installed
from bsm_core.scoring.settings import Settings


def run_record(
    settings: Settings,
    *,
    used: str,
    components: Sequence[ComponentRecord],
    hashes: Mapping[str, str],
    self_check: float | None,
    encoders: Mapping[str, Any] | None,
    committed: Committed,
    seconds: float,
    profile: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the run record as a dict of JSON values.

    Args:
        settings: All settings, defaults included.
        used: Devices that were used.
        components: Components that were used, with their parameters.
        hashes: SHA-256 of each file of the artifact.
        self_check: Largest difference of a check row's probability from the stored one; None if none was scored.
        encoders: Precision and backends of the text encoders, and the change that the precision made to the check rows.
        committed: The prediction file with its number of rows and windows and its counts.
        seconds: Wall time of the run.
        profile: Seconds by activity; None without ``--profile``.
    """
    return {
        "settings": settings.model_dump(mode="json"),
        "device": {"asked": settings.model_dump(mode="json")["device"], "used": used},
        "components": [component.model_dump() for component in components],
        "artifact": dict(hashes),
        "self_check": None if self_check is None else {"largest_difference": self_check},
        "encoders": encoders,
        "versions": installed(),
        "rows": committed.rows,
        "windows": committed.windows,
        "counts": dict(committed.counts),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "output": committed.path.name,
        "profile": None if profile is None else {what: round(value, 6) for what, value in profile.items()},
    }
