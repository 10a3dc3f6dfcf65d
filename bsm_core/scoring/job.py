"""A scoring job, from its settings to its markers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.pretrained_files import allow_downloads
from bsm_core.errors import BSMError, UsageError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.engines import ranks
from bsm_core.scoring.engines.devices import plan_devices
from bsm_core.scoring.engines.local import Job
from bsm_core.scoring.settings import Settings
from bsm_core.scoring.sink import Sink

log = logging.getLogger("bsm")


def run(flags: Mapping[str, Any], env: Mapping[str, str]) -> Committed:
    """Score a table with an artifact, from file to file.

    Args:
        flags: Settings by name; None means not set.
        env: Environment variables.

    Returns:
        The prediction file, its number of rows, and counts of what was unusual in the data.

    Raises:
        UsageError: A setting has an invalid value; no file was touched.
        BSMError: The run failed; the output folder holds ``_FAILURE`` and no predictions of this run.
    """
    settings = Settings.resolve(flags, env)
    data, output = settings.data_dir, settings.output_dir
    if data.is_dir() and output.resolve().is_relative_to(data.resolve()):  # the next run would read the predictions
        raise UsageError(
            "the output folder is inside the data folder", where=str(output), fix="choose another --output-dir"
        )
    sink = Sink(output)
    try:
        sink.begin()
        return _run(settings)
    except BaseException as error:
        sink.fail(error.one_line() if isinstance(error, BSMError) else f"{type(error).__name__}: {error}")
        raise


def _run(settings: Settings) -> Committed:
    began = time.time()
    if settings.allow_downloads:
        allow_downloads()
    with unpacked(settings.model_dir) as folder:
        artifact = Artifact.load(folder)
        settings = settings.with_artifact(artifact.raw_config)
        plan = plan_devices(settings, torch.cuda.device_count())
        if plan.warning:
            log.warning("%s", plan.warning)
        log.info("scoring %s with %s on %s", settings.data_dir, settings.model_dir, plan)
        # Hashed once for all processes and before the run, because the files may change while it lasts; and only if
        # something will read the hashes.
        hooks = any(component.kind in ("guard", "observer") for component in default_registry().components)
        hashes = dict(artifact.hashes) if settings.run_record or settings.strict or hooks else {}
        committed, used = ranks.run(Job(settings, artifact, hashes, began), plan)
    seconds = time.time() - began
    log.info(
        "%s rows in %.1f s (%s rows/s) on %s, device asked for: %s",
        f"{committed.rows:,}", seconds, f"{committed.rows / seconds:,.0f}", used, settings.device,
    )  # fmt: skip
    log.info("predictions: %s", committed.path)
    return committed
