"""Text steps: the base class that plugins derive from, and the values that an artifact provides to steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """Kind of value that a step takes or returns for each row.

    Example:
        Write a step that splits a text into chunks::

            class Paragraphs(TextStep):
                gives = Kind.CHUNKS

                def process(self, value: str) -> list[str]:
                    return value.split("\\n\\n")
    """

    TEXT = "text"
    """``str``"""
    MESSAGES = "messages"
    """``list[str]``: the turns of a dialogue."""
    ROLE_MESSAGES = "role_messages"
    """``list[dict]``: turns with ``"role"`` and ``"content"``, as in the Hugging Face chat format."""
    CHUNKS = "chunks"
    """``list[str]``: texts short enough for the encoder."""
    TOKENS = "tokens"
    """``list[list[int]]``: token ids of each chunk, with special tokens, without padding."""


class TextStep(ABC):
    """Base class of text steps.

    The parameters of ``__init__`` are the parameters of the step in the artifact's config. Their values are JSON values
    and are checked against the type annotations. After a step that returns messages or chunks, a step from text to text
    is applied to each message or chunk separately.

    Attributes:
        takes: Kind of value that the step takes for each row.
        gives: Kind of value that the step returns for each row.
        uses: Names of ``__init__`` parameters that the artifact provides if the step's entry in the config does not:
            ``"tokenizer"`` (the artifact's tokenizer) or any key of the config, such as ``"max_sen_len"``.
        example_params: Sets of parameters with which :mod:`bsm_core.testing` builds the step. Required if a parameter
            has no default.
        example_texts: Texts with which :mod:`bsm_core.testing` calls the step. Required if the step refuses ordinary
            texts.

    Example:
        Write a step with a parameter::

            class Shout(TextStep):
                def __init__(self, marks: int = 1) -> None:
                    self.marks = marks

                def process(self, value: str) -> str:
                    return value.upper() + "!" * self.marks
    """

    takes: ClassVar[Kind] = Kind.TEXT
    gives: ClassVar[Kind] = Kind.TEXT
    uses: ClassVar[tuple[str, ...]] = ()
    example_params: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    example_texts: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def process(self, value: Any) -> Any:
        """Return the result for one row. The result must depend on ``value`` alone, and ``value`` must not change."""

    def process_batch(self, values: Sequence[Any]) -> list[Any]:
        """Return the results for many rows, in order. Override this method if a column at a time is faster."""
        return [self.process(value) for value in values]


@dataclass(frozen=True)
class StepContext:
    """Values that an artifact provides to the steps of one text field.

    Attributes:
        column: Name of the text column.
        tokenizer: A Hugging Face fast tokenizer.
        config: Config keys that steps may use.
    """

    column: str
    tokenizer: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def provide(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of the parameters in :attr:`TextStep.uses`, without those that are None."""
        values = {**self.config, "tokenizer": self.tokenizer}
        return {name: values[name] for name in names if values.get(name) is not None}
