"""Labels and names of the classes of a model, as its config records them."""

from __future__ import annotations

from dataclasses import dataclass

from bsm_core.artifact.config import ArtifactConfig


@dataclass(frozen=True)
class ClassLabels:
    """Labels that a model was trained with, as far as they are known.

    Attributes:
        column: Name of the label column, the config key ``label_name``; None if the config has none.
        labels: Label of each class as it stands in that column, the config key ``multiclass_categories``; None if the
            config has none, or has another number of them than of classes.
        names: Name of each class for people, the config key ``class_names`` or, without it, ``id2label``; None if the
            config has neither.
    """

    column: str | None = None
    labels: list[str] | None = None
    names: list[str] | None = None

    @classmethod
    def of_config(cls, config: ArtifactConfig) -> ClassLabels:
        """Return the labels of a config."""
        values, classes = config.as_mapping(), config.num_classes
        column, labels = values.get("label_name"), values.get("multiclass_categories")
        return cls(
            column=column if isinstance(column, str) else None,
            labels=[*map(str, labels)] if isinstance(labels, list) and len(labels) == classes else None,
            names=config.given_class_names,
        )
