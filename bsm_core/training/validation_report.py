"""The scores of the validation rows, and their report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bsm_core.artifact.training_distributions import TrainingDistributions
from bsm_core.metrics.labeled import Labeled
from bsm_core.models.batch import Batch
from bsm_core.predictor import Predictor
from bsm_core.preprocess.findings import Findings
from bsm_core.report.binning import Scored
from bsm_core.report.page.draw import draw
from bsm_core.report.run_statistics import as_record
from bsm_core.report.statistics import MOST_CLASSES, FloatArray, score_bins
from bsm_core.runtime.versions import installed
from bsm_core.scoring.counting import binning_of, text_arrays
from bsm_core.scoring.provenance import components_of

_ROWS = 4_096


@dataclass(frozen=True)
class Validated:
    """Validation rows with their scores.

    Attributes:
        predictor: Predictor of the artifact.
        batch: The rows, with labels.
        probabilities: Float64 ``[rows, classes]``.
    """

    predictor: Predictor
    batch: Batch
    probabilities: FloatArray

    @classmethod
    def of(cls, predictor: Predictor, batch: Batch, *, gpu: bool) -> Validated:
        """Score the validation rows.

        Args:
            predictor: Predictor of the artifact; afterwards its model is on the CPU.
            batch: The rows.
            gpu: Whether to score on a GPU instead of the CPU.
        """
        model = predictor.model.to("cuda" if gpu else "cpu")
        with torch.inference_mode():
            starts = range(0, batch.rows, _ROWS)
            parts = (batch.select(torch.arange(at, min(batch.rows, at + _ROWS))).to(model.device) for at in starts)
            found = [model.predict_step(part).cpu().numpy() for part in parts]
        model.to("cpu")
        return cls(predictor, batch, np.concatenate(found))

    def page(
        self, output: Path, findings: Findings, numbers: Sequence[int], epoch: int, further: Sequence[str] = ()
    ) -> str:
        """Return the report.

        Args:
            output: The artifact, for the title.
            findings: Findings of the rows.
            numbers: Number of each row in its table.
            epoch: Number of the best epoch.
            further: Further notes.
        """
        artifact = self.predictor.artifact
        config = artifact.raw_config if artifact else {}
        counts, binning = findings.counts(), binning_of(self.predictor)
        statistics = binning.statistics(
            Scored(
                start=0,
                probabilities=self.probabilities,
                texts=text_arrays(self.batch),
                features=self.batch.table_values.numpy(),
                counts=counts,
                known={name: each.known for name, each in findings.categories.items()},
                unseen={name: each.unseen for name, each in findings.categories.items()},
                name=lambda rows: [f"row {numbers[row]:,} of the table" for row in rows],
            )
        )
        found = as_record(statistics, binning, self.predictor.preprocessor.config.classes, counts)
        record = {
            "rows": self.batch.rows,
            "counts": counts,
            "components": [component.model_dump() for component in components_of(self.predictor)],
            "versions": installed(),
            "artifact_path": str(output),
            "statistics": found,
        }
        labels = self.batch.labels
        labeled = None if labels is None else Labeled.of(self.probabilities, labels.numpy(), found["classes"])
        subject = f"{output.name} · {config.get('model_class', '')} · epoch {epoch}"
        notes = ["The best epoch was chosen by these validation rows, so new rows may score a little worse.", *further]
        return draw(record, title="Validation report", subject=subject, notes=notes, labeled=labeled)


def with_scores(distributions: TrainingDistributions, scored: Validated | None) -> TrainingDistributions:
    """Return the distributions with those of the scores of the validation rows."""
    found = [] if scored is None else score_bins(scored.probabilities[:, :MOST_CLASSES]).tolist()
    return distributions.model_copy(update={"scores": found})
