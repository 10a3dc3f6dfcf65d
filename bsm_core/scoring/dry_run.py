"""``bsm run --dry-run``: all that a run checks before its first row, without a row and without output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bsm_core.runtime.durable import require_can_write
from bsm_core.runtime.memory import explaining_memory, require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once
from bsm_core.scoring.job import nothing_to_resume, settings_of
from bsm_core.scoring.output.lock import require_free
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.path_checks import check_paths
from bsm_core.scoring.output.run_report import check_report
from bsm_core.scoring.run_events import Outline


def dry_run(
    flags: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, tuple[Any, str]] | None = None
) -> Outline:
    """Check all that a run checks before its first row, and return its plan.

    Nothing is written but what :func:`bsm_core.scoring.attempt.outline` says.

    Whether an object store lets this user write shows only when something is written, so it is not checked.

    Args:
        flags, env, file: See :func:`bsm_core.scoring.job.run`.

    Raises:
        BSMError: The run would fail before its first row.
    """
    settings = settings_of(flags, env, file, None)
    check_paths(settings)
    shard, output = settings.shard, settings.output_dir
    work = WorkFolder(output, shard)
    if settings.resume == "require" and not work.path.exists():
        raise nothing_to_resume(work)
    for other in [work, *(WorkFolder.all_of(output) if output.is_dir() else [])]:
        require_free(other.lock, shard.hosts if shard and other.path != work.path else 0)
    for folder in (output, *([settings.row_issues.parent] if settings.row_issues else [])):
        require_can_write(folder)
    if settings.report:
        check_report(settings.report)
    with explaining_memory():
        require_memory_for_libraries()
        with at_once(), starting():
            from bsm_core.scoring import attempt
        return attempt.outline(settings)
