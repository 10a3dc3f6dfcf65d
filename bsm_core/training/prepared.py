"""Fitting of what surrounds the weights, the batches of the rows, and the model with its initial weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.predictor.model_building import building
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import Findings, IssueWarnings, warn_of_counts
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.distributions import fit_distributions
from bsm_core.training.features.feature_keys import FeatureKinds
from bsm_core.training.features.fit_scaling import fit_scaling
from bsm_core.training.fitting import balanced_weights, fit_impute, fit_magnitudes, fit_risk_tables, tell_missing
from bsm_core.training.model_defaults import model_defaults
from bsm_core.training.optional.checkpointing import checkpoint_gradients
from bsm_core.training.optional.lora import add_adapters
from bsm_core.training.rows.data import Rows
from bsm_core.training.text_assets import TextAssets


class Prepared:
    """The batches of a job, and everything that is fitted before the weights.

    Attributes:
        impute: Imputation values, as :func:`fit_impute` returns them.
        risk_tables: Risk tables, as :func:`fit_risk_tables` returns them.
        scaling: Scaling of the features.
        text: Tokenizers, encoders and embeddings.
        changes: Config keys of the artifact whose values the job chose.
        preprocess: What turns columns into a batch.
        train: The training rows, with labels.
        distributions: Distributions of the training rows.
        validation: The validation rows, with labels; None if there are none.
        validation_findings: What was wrong with cells of the validation rows.
    """

    def __init__(self, job: TrainingJob, rows: Rows, held_out: Rows | None, order: list[Any]) -> None:
        config, training = job.artifact, job.training
        kinds = FeatureKinds.of(config, training)
        self.impute = fit_impute(rows.columns, kinds.numbers, rows.dialect)
        tell_missing(rows.columns, kinds, [text.column for text in config.text_fields], self.impute)
        self.risk_tables = fit_risk_tables(
            rows,
            kinds.tables,
            classes=config.num_classes,
            smoothing=training.risk_smoothing,
            min_count=training.risk_min_count,
        )
        self.scaling = fit_scaling(rows, kinds, training, self.impute, self.risk_tables)
        self.text = TextAssets(job, rows.columns)
        self.changes: dict[str, Any] = {"multiclass_categories": order, **self.text.config()}
        self.changes["largest_magnitudes"] = fit_magnitudes(rows.columns, kinds.numbers, self.impute, rows.dialect)
        self.changes |= model_defaults(job, self.scaling, self.text.pretrained)
        if training.class_weights == "balanced":
            self.changes["class_weights"] = balanced_weights(rows.labels, config.num_classes)
        tokenizer = self.text.tokenizer
        pipelines = text_pipelines(config, lambda field: tokenizer(field.prefix), job.registry, job.names)
        self.preprocess = preprocess = Preprocessor(
            config, pipelines, self.impute, self.risk_tables, scaling=self.scaling
        )
        self.train, found = batch_of(preprocess, rows)
        self.distributions = fit_distributions(
            preprocess, rows, self.train, found, numbers=kinds.numbers, categories=kinds.categories
        )
        self.validation: Batch | None = None
        self.validation_findings = Findings()
        if held_out:
            self.validation, self.validation_findings = batch_of(preprocess, held_out)


def build_model(job: TrainingJob, prepared: Prepared) -> ModelBase:
    """Return the model class's model with its initial weights, in training mode.

    Raises:
        ConfigError: The model class refuses a key, or has no gradient checkpointing or no place for adapters.
    """
    inputs = prepared.scaling.input_names(job.artifact.tab_field_list)
    values = job.model_values({**prepared.changes, **prepared.text.provided(), "feature_count": len(inputs) or None})
    where = "the training config"
    with building(job.artifact.model_class, where, fix="correct the key that the message names"):
        model = job.model_class.from_config(values, where=where)
        for key, state in prepared.text.pretrained.items():
            model.load_pretrained(key, state)
    if job.training.lora:
        add_adapters(model, job.training.lora)
    if job.training.gradient_checkpointing:
        checkpoint_gradients(model)
    model.component = job.names.model_class
    return model.train()


def batch_of(preprocess: Preprocessor, rows: Rows) -> tuple[Batch, Findings]:
    """Return rows as one batch with labels, and what was wrong with their cells, which the log says."""
    batch, findings = preprocess.batch(rows.columns, len(rows), dialect=rows.dialect)
    numbers = rows.numbers()
    IssueWarnings().add(findings, lambda found: [numbers[row] for row in found])
    warn_of_counts(findings.counts(), len(rows), rows.source)
    return replace(batch, labels=rows.labels), findings
