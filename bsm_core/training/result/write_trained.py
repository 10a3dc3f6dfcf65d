"""Writing of the artifact of a training job, and the report of its validation rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from bsm_core.artifact import Artifact, save_artifact
from bsm_core.artifact.check_rows import write_check_rows
from bsm_core.artifact.features.explanation_background import write_explanation_background
from bsm_core.artifact.files import TRAINING_METRICS
from bsm_core.artifact.training_distributions import write_training_distributions
from bsm_core.plugins.hooks import without_hooks
from bsm_core.predictor import Predictor
from bsm_core.scoring.output.run_report import drawn
from bsm_core.scoring.provenance import add_provenance
from bsm_core.scoring.self_check import make
from bsm_core.training.baselines import notes_of
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.prepared import Prepared
from bsm_core.training.result.trained_metrics import JobRows
from bsm_core.training.validation_report import Validated, with_scores


def save_trained(
    folder: Path, job: TrainingJob, prepared: Prepared, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]
) -> None:
    """Write the files of an artifact that hold what was fitted and measured."""
    shutil.rmtree(folder, ignore_errors=True)  # remains of a job that was stopped while it saved
    save_artifact(
        folder,
        config=job.artifact_values(prepared.changes),
        state_dict=weights,
        risk_tables=prepared.risk_tables,
        impute=prepared.impute,
        feature_scaling=prepared.scaling,
        tokenizers=prepared.text.tokenizers,
        encoder_configs={key.removesuffix("text_encoder"): value for key, value in prepared.text.encoders.items()},
        embedding_mat=prepared.text.embedding,
    )
    (folder / TRAINING_METRICS).write_text(json.dumps(metrics, indent=2) + "\n")


def complete_trained(
    artifact: Path,
    job: TrainingJob,
    rows: JobRows,
    prepared: Prepared,
    metrics: Mapping[str, Any],
    output: Path,
    *,
    gpu: bool,
) -> str | None:
    """Add to an artifact what its own scores tell: rows for the self-check, distributions, background and provenance.

    Args:
        artifact: Folder of :func:`save_trained`.
        job: The training job.
        rows: Its rows.
        prepared: What was fitted.
        metrics: What ``training_metrics.json`` has.
        output: Where the artifact will be, for the title of the report.
        gpu: Whether to score on a GPU instead of the CPU.

    Returns:
        The report of the validation rows; None if there are none, or if it cannot be drawn.
    """
    # Without hooks: a guard cannot know an artifact that was just made.
    predictor = Predictor.load(Artifact.load(artifact), registry=without_hooks(job.registry), names=job.names)
    if job.training.check_rows:
        shown = rows.held_out or rows.training
        write_check_rows(artifact, make(predictor, shown.head(job.training.check_rows), shown.dialect))
    scored = Validated.of(predictor, prepared.validation, gpu=gpu) if prepared.validation else None
    write_training_distributions(artifact, with_scores(prepared.distributions, scored))
    write_explanation_background(artifact, predictor.make_background(prepared.train))
    add_provenance(artifact, predictor)
    if scored is None or rows.held_out is None:
        return None
    epoch, notes = metrics["best"]["epoch"], notes_of(metrics["baselines"])
    draw = partial(scored.page, output, prepared.validation_findings, rows.held_out.numbers(), epoch, notes)
    return drawn(draw, "the artifact is")
