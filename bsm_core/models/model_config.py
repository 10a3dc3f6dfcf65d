"""Config keys that every model class has."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

ClassCount = Annotated[PositiveInt, Field(le=100_000)]
"""Number of classes; limited, because a model is built before it is known whether the weights are of its size."""

_BOOL = TypeAdapter(bool)


def count_classes(values: dict[str, Any]) -> dict[str, Any]:
    """Make ``is_binary`` and ``num_classes`` agree: a binary model has two classes.

    ``num_classes`` alone implies ``is_binary``; where ``is_binary`` is true, ``num_classes`` is 2.
    """
    if "is_binary" not in values:
        return {**values, "is_binary": values.get("num_classes", 2) == 2}
    try:
        binary = _BOOL.validate_python(values["is_binary"])  # pydantic reads "True", "yes" and 1 as true, too
    except ValidationError:
        return values  # which the model reports
    return {**values, "num_classes": 2} if binary else values


class ModelConfig(BaseModel):
    """Config keys that every model class has; a model class adds its own keys in a subclass. Other keys are ignored.

    Example:
        Add keys to the config of a model class::

            class MyConfig(ModelConfig):
                text_name: str
                hidden_size: PositiveInt = 64
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    is_binary: bool = True
    num_classes: ClassCount = 2
    class_weights: list[NonNegativeFloat] | None = None
    max_sen_len: Annotated[PositiveInt, Field(le=1_000_000)] = 512
    batch_size: PositiveInt = 32
    calibration_temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    lr: PositiveFloat = 2e-5
    encoder_lr: PositiveFloat | None = None
    weight_decay: NonNegativeFloat = 0.0
    adam_epsilon: PositiveFloat = 1e-8
    warmup_steps: NonNegativeInt = 0
    run_scheduler: bool = True

    _classes = model_validator(mode="before")(count_classes)

    @model_validator(mode="after")
    def _weigh_each_class(self) -> Self:
        if self.class_weights and len(self.class_weights) != self.num_classes:
            raise ValueError(f"class_weights has {len(self.class_weights)} values for {self.num_classes} classes")
        return self
