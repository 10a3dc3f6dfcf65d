"""Metrics of a training job, as ``training_metrics.json`` has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bsm_core.errors import ConfigError
from bsm_core.models.base import ModelBase
from bsm_core.training.baselines import measure_baselines
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.metrics import History, measure
from bsm_core.training.optional.calibration import calibrate, logits_of
from bsm_core.training.optional.folds import Fold, summary
from bsm_core.training.prepared import Prepared
from bsm_core.training.rows.data import Rows


@dataclass(frozen=True)
class JobRows:
    """Rows of a training job.

    Attributes:
        whole: All rows of the table.
        given: Rows of the table for validation, None if there is none.
        training: The training rows.
        held_out: The validation rows; None if there are none.
        order: Label of each class.
    """

    whole: Rows
    given: Rows | None
    training: Rows
    held_out: Rows | None
    order: list[Any]


def check_calibration(job: TrainingJob, held_out: Rows | None) -> None:
    """Check that there are rows for a calibration, if the job asks for one.

    Raises:
        ConfigError: There are neither validation rows nor folds.
    """
    if job.training.calibrate and not held_out and not job.training.folds:
        what = "the temperature is fitted on validation rows, and there are none"
        fix = "set validation_fraction or folds, or give a validation table"
        raise ConfigError(what, where="config.calibrate", fix=fix)


def measure_training(
    job: TrainingJob,
    rows: JobRows,
    prepared: Prepared,
    model: ModelBase,
    trained: tuple[History, int],
    folds: list[Fold],
    *,
    gpu: bool,
) -> dict[str, Any]:
    """Return the metrics of a training job, and set the temperature of the artifact if the job calibrates.

    Args:
        job: The training job.
        rows: Its rows.
        prepared: What was fitted; gets the config key ``calibration_temperature``.
        model: The model with the weights of the best epoch.
        trained: Metrics of the epochs, and the number of the best epoch from 0.
        folds: The folds, if the job has folds.
        gpu: Whether to compute on a GPU instead of the CPU.
    """
    history, best = trained
    epochs = list(map(_plain, history.epochs))
    told = rows.given.left_out if rows.given else {}
    metrics: dict[str, Any] = {
        "rows": {
            "training": len(rows.training),
            "validation": len(rows.held_out) if rows.held_out else 0,
            **rows.whole.left_out,
            **{f"validation_{reason}": count for reason, count in told.items()},
        },
        "classes": rows.order,
        "epochs": epochs,
        "best": epochs[best],
    }
    if rows.held_out:
        metrics["baselines"] = measure_baselines(job, rows.training, rows.held_out)
    if folds:
        metrics["folds"] = summary(folds, rows.whole.labels, job.training)
    if job.training.calibrate:
        _calibrate(rows, prepared, model, folds, metrics, gpu=gpu)
    return metrics


def _calibrate(
    rows: JobRows, prepared: Prepared, model: ModelBase, folds: list[Fold], metrics: dict[str, Any], *, gpu: bool
) -> None:
    """Fit the temperature: with folds, on all rows, each scored by the model that did not see it."""
    batch = prepared.validation
    own = None if batch is None else logits_of(model, batch, gpu=gpu)
    if folds:
        places = np.concatenate([fold.rows for fold in folds])
        logits = np.concatenate([fold.logits for fold in folds])
        found = calibrate(logits, rows.whole.labels.numpy()[places], "rows of the folds")
    elif own is not None and rows.held_out:
        found = calibrate(own, rows.held_out.labels.numpy(), "validation rows")
    else:
        raise ConfigError("there are no rows for the temperature", where="config.calibrate")  # see check_calibration
    metrics["calibration"] = found
    prepared.changes["calibration_temperature"] = found["temperature"]
    if own is not None and rows.held_out:
        probabilities = (torch.from_numpy(own) / found["temperature"]).softmax(dim=-1)
        metrics["best"] = {**metrics["best"], **_plain(measure(probabilities, rows.held_out.labels))}


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in metrics.items()}
