"""Every error a user can meet.

An error says what was wrong, where (file, column, row id, config key) and what to do about it. Errors that the
inference contract promises as a built-in type (``FileNotFoundError``, ``KeyError``, ...) inherit from it as well.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence
from typing import Any


class BSMError(Exception):
    """Base of all errors that are meant to be read by a person.

    Args:
        what: What was wrong, in one sentence.
        where: The file, column, row id or config key it was found in.
        fix: What to do about it.
        details: Further lines, for example every missing column.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, details: Sequence[str] = ()
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.details = tuple(details)

    def __str__(self) -> str:
        lines = [self._headline(), *(f"  {line}" for line in self.details)]
        if self.fix:
            lines.append(f"  To fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (worker processes, DDP ranks), and keyword arguments do not pickle by default.
        return _rebuild, (type(self), self.what, self.where, self.fix, self.details)

    def one_line(self) -> str:
        """The whole error in one line, as it is written to ``_FAILURE``."""
        parts = [f"{type(self).__name__}: {self._headline()}", *self.details]
        if self.fix:
            parts.append(f"To fix: {self.fix}")
        return " ".join("; ".join(parts).split())

    def _headline(self) -> str:
        return f"{self.what} ({self.where})" if self.where else self.what


def _rebuild(kind: type[BSMError], what: str, where: str | None, fix: str | None, details: tuple[str, ...]) -> BSMError:
    return kind(what, where=where, fix=fix, details=details)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, whatever its case, or None when none is alike."""
    by_lower = {k.lower(): k for k in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


class UsageError(BSMError, ValueError):
    """A flag or environment variable that cannot be used; the process exits with 2."""

    exit_code = 2


# Plugins


class PluginError(BSMError):
    """Something about a plugin or the name of a component."""


class UnknownComponentError(PluginError, LookupError):
    """No plugin provides the name."""


class UnknownStepError(UnknownComponentError):
    """No text step of that name."""


class UnknownModelClassError(UnknownComponentError):
    """No model class of that name."""


class AmbiguousComponentError(PluginError, LookupError):
    """Two distributions provide the name."""


class RemovedComponentError(PluginError, LookupError):
    """The name existed once and was removed."""


class ComponentLoadError(PluginError, ImportError):
    """The name is known but its object could not be imported or is not what it should be."""


class HookFailedError(PluginError):
    """A guard refused, or one of its hooks failed; an observer's never becomes an error."""


# Artifact and config


class ConfigError(BSMError, ValueError):
    """Artifact config keys that are missing or wrong: all of them, one a line."""


class PipelineError(ConfigError):
    """A list of text steps that cannot be built or does not fit together."""


class ArtifactError(BSMError):
    """Something about the artifact's files."""


class MissingArtifactFilesError(ArtifactError, FileNotFoundError):
    """Files the artifact must have, all of those that are not there."""


class CorruptArtifactError(ArtifactError, ValueError):
    """A file of the artifact that cannot be read as what it should be."""


class UnsafeArtifactError(ArtifactError, ValueError):
    """A file of the artifact that would run code or leave its folder."""


class WeightsMismatchError(ArtifactError, ValueError):
    """Weights whose keys or shapes are not those of the model class."""


class TokenizerError(ArtifactError, OSError):
    """Neither the artifact nor any other place has the tokenizer or the encoder's config."""


class SelfCheckError(ArtifactError):
    """An artifact that gives its check rows other probabilities than when it was packed."""


class ProvenanceError(ArtifactError):
    """An artifact that is made of something else here than was recorded in it; only ``--strict`` asks."""


# Data


class DataError(BSMError, ValueError):
    """Something about the input table."""


class NoInferenceDataError(BSMError, RuntimeError):
    """No data file in the data folder."""


class MixedFormatsError(DataError, RuntimeError):
    """Data files of two formats in one folder."""


class MissingColumnsError(BSMError, KeyError):
    """Columns that the artifact or the job needs and the data lacks."""


# Run


class StepFailedError(BSMError, RuntimeError):
    """A text step that breaks its own promise (wrong number of results, or fails on empty text)."""


class ModelFailedError(BSMError, RuntimeError):
    """A model class that breaks its own promise (raises, gives other logits than it should, or no numbers)."""


class SinkError(BSMError, OSError):
    """The predictions could not be written."""


class EngineError(BSMError, RuntimeError):
    """A process or device of the run failed."""


class Interrupted(BaseException):
    """The run was told to end.

    Attributes:
        signal: Number of the signal that said so.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number
