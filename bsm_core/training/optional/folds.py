"""Cross-validation: the job on all rows but a fold, measured on that fold, for each of some folds."""

from __future__ import annotations

import logging
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bsm_core.errors import CheckpointError, DataError
from bsm_core.metrics.names import METRICS
from bsm_core.runtime.durable import writing
from bsm_core.training.config.training_config import TrainingConfig
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.loop import fit
from bsm_core.training.metrics import as_text, measure, shown
from bsm_core.training.optional.calibration import Floats, fit_temperature, logits_of
from bsm_core.training.optional.loggers import open_loggers
from bsm_core.training.prepared import Prepared, batch_of, build_model
from bsm_core.training.resuming.checkpoints import FOLD, LAST, read_checkpoint, write_whole
from bsm_core.training.rows.data import Rows
from bsm_core.training.rows.read_rows import divide

log = logging.getLogger("bsm")


@dataclass(frozen=True)
class Fold:
    """A fold, scored by a model that saw none of its rows.

    Attributes:
        rows: Positions of the rows, ascending, int64 ``[rows]``.
        logits: Float64 ``[rows, classes]``.
        epoch: Number of the best epoch, from 1.
    """

    rows: npt.NDArray[np.int64]
    logits: Floats
    epoch: int


def stratified(labels: Tensor, folds: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Return the positions of the rows of each fold. Every fold has its share of the rows of each class.

    Args:
        labels: Class indices, int64 ``[rows]``.
        folds: Number of folds.
        seed: Seed of the choice.

    Raises:
        DataError: A class has fewer rows than there are folds.
    """
    counts = labels.bincount()
    if few := [f"class {i}: {count} row(s)" for i, count in enumerate(counts.tolist()) if 0 < count < folds]:
        raise DataError(
            f"{len(few)} class(es) have fewer rows than the {folds} folds",
            where="config.folds",
            details=few,
            fix="lower folds, or give more rows of these classes",
        )
    rng = np.random.default_rng([seed, folds])
    by_class = [rng.permutation(np.flatnonzero(labels.numpy() == i)) for i in range(len(counts))]
    # One class after the other, dealt like cards: folds have equal sizes, too.
    dealt = np.concatenate(by_class).astype(np.int64)
    return [np.sort(dealt[fold::folds]) for fold in range(folds)]


def check_folds(job: TrainingJob, tables: tuple[Rows, Rows | None], order: list[Any]) -> None:
    """Check the rows of every fold, if the job has folds, before anything is prepared.

    Args:
        job: The training job.
        tables: All rows, and the validation rows that the caller gave, as in :func:`score_folds`.
        order: Label of each class.

    Raises:
        DataError: A class has fewer rows than there are folds, or the metric that chooses the best epoch is not defined
            for the validation rows of a fold.
    """
    labels, validation = replace(tables[0], columns={}), tables[1]
    if job.training.folds is None:
        return
    for held in stratified(labels.labels, job.training.folds, job.training.seed):
        divide(job, _without(labels, held), validation, order)


def _without(rows: Rows, held: npt.NDArray[np.int64]) -> Rows:
    return rows.take(np.setdiff1d(np.arange(len(rows)), held).tolist())


def score_folds(
    job: TrainingJob, tables: tuple[Rows, Rows | None], order: list[Any], work: Path, logs: Path, *, gpu: bool
) -> list[Fold]:
    """Train on all rows but a fold and score the fold, for each fold. Folds that a stopped job finished are kept.

    Each of these trainings is the job as it is: it chooses its best epoch with its own validation rows, which are not
    those of the fold.

    Args:
        job: The training job.
        tables: All rows; and the validation rows that the caller gave, or None for a share of the others.
        order: Label of each class.
        work: Folder of the job, which gets a folder for each fold.
        logs: Folder of the logs of the job; those of a fold have a folder beside it.
        gpu: Whether to train on a GPU instead of the CPU.

    Raises:
        DataError: As :func:`check_folds`.
        BSMError: As in a job without folds.
    """
    (rows, validation), count = tables, job.training.folds or 0
    found = []
    for number, held in enumerate(stratified(rows.labels, count, job.training.seed), start=1):
        folder = work / f"fold-{number}"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        stored = _stored(folder, len(held))
        if stored is None:
            training, chosen_by = divide(job, _without(rows, held), validation, order)
            told = "fold %d of %d: training on %s rows, validating on %s, measuring on %s"
            log.info(told, number, count, *(f"{len(part):,}" for part in (training, chosen_by or (), held)))
            own = logs.with_name(f"{logs.name.removesuffix('-logs')}-fold-{number}-logs")
            stored = _score(job, (training, chosen_by, rows.take(held.tolist())), order, folder, own, gpu=gpu)
        else:
            log.info("fold %d of %d: finished before", number, count)
        found.append(Fold(held, stored["logits"].numpy(), stored["epoch"]))
    log.info("all folds are finished; now the artifact is trained")
    return found


def _stored(folder: Path, rows: int) -> dict[str, Any] | None:
    """Return what a finished fold has stored; None if there is nothing, or nothing that can be used."""
    if not (folder / FOLD).exists():
        return None
    try:
        found = read_checkpoint(folder / FOLD, ("logits", "epoch"))
        if len(found["logits"]) == rows:
            return found
        reason = "it has other rows"
    except CheckpointError as error:
        reason = error.what
    log.warning("%s is damaged (%s), so this fold is trained again", folder / FOLD, reason)
    return None


def _score(
    job: TrainingJob,
    parts: tuple[Rows, Rows | None, Rows],
    order: list[Any],
    folder: Path,
    logs: Path,
    *,
    gpu: bool,
) -> dict[str, Any]:
    """Train, store the logits of the fold in the folder, and return what was stored."""
    torch.manual_seed(job.training.seed)
    training, validation, held = parts
    prepared = Prepared(job, training, validation, order)
    model = build_model(job, prepared)
    loggers = open_loggers(job.training.loggers, job.values, logs, folder, folder / LAST)
    batches = (prepared.train, prepared.validation)
    weights, best, _ = fit(model, *batches, job.training, folder, gpu=gpu, loggers=loggers)
    model.load_state_dict(weights)
    logits = torch.from_numpy(logits_of(model, batch_of(prepared.preprocess, held)[0], gpu=gpu))
    result = {"logits": logits, "epoch": best + 1}
    write_whole(result, folder / FOLD)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()
    return result


def summary(folds: list[Fold], labels: Tensor, config: TrainingConfig) -> dict[str, Any]:
    """Return the metrics of each fold, with their mean and standard deviation, and log them.

    If the job calibrates, the scores of a fold are those of the temperature that fits the other folds.

    Args:
        folds: The folds.
        labels: Class index of all rows, int64 ``[rows]``.
        config: Config of the training job.

    Returns:
        ``each`` fold, with its number, rows, best epoch and metrics; and the ``mean`` and sample standard deviation
        (``std``) of each metric. A metric that is not defined is None, and not in its mean.
    """
    each: list[dict[str, Any]] = []
    for number, fold in enumerate(folds, start=1):
        others = [other for other in folds if other is not fold]
        temperature = 1.0
        if config.calibrate:
            rows = np.concatenate([other.rows for other in others])
            temperature = fit_temperature(np.concatenate([o.logits for o in others]), labels.numpy()[rows]) or 1.0
        probabilities = (torch.from_numpy(fold.logits) / temperature).softmax(dim=-1)
        measured = measure(probabilities, labels[fold.rows])
        log.info("fold %d: %s", number, as_text(shown(measured, config.monitor)))
        each.append({"fold": number, "rows": len(fold.rows), "best_epoch": fold.epoch, **_plain(measured)})
    means, deviations = {}, {}
    for name in METRICS:
        values = [one[name] for one in each if one[name] is not None]
        means[name] = statistics.fmean(values) if values else math.nan
        deviations[name] = statistics.stdev(values) if len(values) > 1 else math.nan
    texts = (f"{as_text({name: mean})} ± {deviations[name]:.4f}" for name, mean in shown(means, config.monitor).items())
    log.info("%d folds: %s", len(folds), ", ".join(texts))
    return {"each": each, "mean": _plain(means), "std": _plain(deviations)}


def _plain(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}
