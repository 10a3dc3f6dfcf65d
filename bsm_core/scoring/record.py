"""What a run was: the content of ``run.json``."""

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
    """The run record: settings, devices, components, hashes, versions and counts; JSON-able.

    Args:
        settings: What was asked for, defaults included.
        used: The devices that were used.
        components: The plugin components in use, with their parameters.
        hashes: sha256 of each file of the artifact.
        self_check: How far off the artifact's check rows were; None where they were not scored.
        encoders: Precision and back end of the text encoders, and what the precision changed on the check rows.
        committed: What was written.
        seconds: Wall time of the run.
        profile: Seconds by what took them; None where it was not asked for.
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
