"""Every error that a user can meet.

An error says what is wrong, where (file, column, row id or config key), and what to do about it. If the inference
contract promises a built-in type such as ``FileNotFoundError`` or ``KeyError``, the error inherits from it as well.
"""

from __future__ import annotations

import difflib
import errno
import os
import reprlib
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

_LONGEST_LINE, _MOST_DETAILS = 10_000, 1_000
"""Limits on what a message shows: names and values in it may come from a file that somebody made to hurt."""


def printable(text: str, longest: int | None = _LONGEST_LINE) -> str:
    """Return a text as one line that a terminal shows as it is, and that no reader takes for several lines.

    Names and values in messages come from files that may come from anyone. Every character that is not printable, such
    as a line feed or the ESC of an escape sequence, becomes its Python escape (``\\n``, ``\\x1b``).

    Args:
        text: The text.
        longest: Number of characters after which the text is cut; None for no limit.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[:longest]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(text: str) -> str:
    """Return a text in quotes, as one line. Unlike in its ``repr``, a backslash is not doubled.

    So a byte that is not UTF-8 and was decoded to ``\\xe9`` is shown as it was decoded.
    """
    mark = '"' if "'" in text and '"' not in text else "'"
    return f"{mark}{printable(text)}{mark}"


_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxarray = 30
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


def short_repr(value: object, longest: int = 80) -> str:
    """Return the ``repr`` of a value, cut where it is deep or long: a small file can hold a value of any ``repr``."""
    try:
        text = _REPR.repr(value)
    except Exception:  # noqa: BLE001 - such as that of an integer with more digits than Python prints
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def give_flags(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to give flags of ``bsm run``; see the attribute ``settings`` of :class:`BSMError`."""
    flags = (" ".join(f"--{name.replace('_', '-')} {value}" for name, value in each.items()) for each in settings)
    return f"give {' or '.join(flags)}" if settings else ""


class BSMError(Exception):
    """Base class of all errors that are written for the user to read.

    A message shows what is not printable as escapes, and is cut where it is very long; the attributes keep all of it.

    Args:
        what: The problem, in one sentence.
        where: File, column, row id or config key in which the problem was found.
        fix: Advice on how to solve the problem.
        details: Further lines, for example one for each missing column.
        settings: Settings that solve the problem as well, each with its value or a placeholder. One entry has the
            settings that are needed together, such as ``{"csv_header": "none", "csv_columns": "COLUMNS"}``.

    Attributes:
        exit_code: Exit status of a command that ends with this error.
        advice: Function that returns the settings as advice. A command that has other flags than ``bsm run`` sets it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        details: Sequence[str] = (),
        settings: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.details = tuple(details)
        self.settings = tuple(settings)
        self.advice: Callable[[Sequence[Mapping[str, str]]], str] = give_flags

    def __str__(self) -> str:
        lines = [self._headline(), *(f"  {line}" for line in self._more())]
        return "\n".join(map(printable, lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes, and an exception with keyword arguments does not unpickle by default.
        given = {name: getattr(self, name) for name in ("where", "fix", "details", "settings")}
        return partial(type(self), **given), (self.what,)

    def one_line(self) -> str:
        """Return the whole error in one line, as ``_FAILURE`` holds it."""
        lines = [f"{type(self).__name__}: {self._headline()}", *self._more()]
        return " ".join("; ".join(map(printable, lines)).split())

    def _more(self) -> list[str]:
        more = len(self.details) - _MOST_DETAILS
        left_out = [f"and {more:,} more"] if more > 0 else []
        return [*self.details[:_MOST_DETAILS], *left_out, *([f"To fix: {self.to_fix}"] if self.to_fix else [])]

    @property
    def to_fix(self) -> str:
        """All advice on how to solve the problem; "" if there is none."""
        return ", or ".join(filter(None, (self.fix, self.advice(self.settings))))

    def _headline(self) -> str:
        return f"{self.what} ({self.where})" if self.where else self.what


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to ``name``, ignoring case, or None if none is similar."""
    by_lower = {k.lower(): k for k in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def why_unreadable(error: OSError) -> tuple[str, str]:
    """Return why the system does not let a process read a file, and what to do about it.

    Args:
        error: The error, with its ``errno``.
    """
    fix = "check the disk or the network file system that holds the file"
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "let the user of this process read the file and enter its folder: see chmod and chown"
    elif error.errno == errno.ENOENT:
        fix = "check the path, and that no other program removes the file"
    return os.strerror(error.errno or 0), fix


class UsageError(BSMError, ValueError):
    """Error in a setting or an argument; the exit status is 2."""

    exit_code = 2


def require_callable(name: str, value: object, of: str) -> None:
    """Check that an argument is a function, or None.

    Args:
        name: Name of the argument.
        value: Value of the argument.
        of: Arguments of the function, in words.

    Raises:
        UsageError: The value is something else.
    """
    if value is not None and not callable(value):
        raise UsageError(f"{name}={short_repr(value)} cannot be used", fix=f"pass a function of {of}")


# Plugins


class PluginError(BSMError):
    """Base class of errors in plugins and in names of components."""


class UnknownComponentError(PluginError, LookupError):
    """Name of a component that no plugin provides."""


class UnknownStepError(UnknownComponentError):
    """Name of a text step that no plugin provides."""


class UnknownModelClassError(UnknownComponentError):
    """Name of a model class that no plugin provides."""


class AmbiguousComponentError(PluginError, LookupError):
    """Name of a component that several distributions provide."""


class RemovedComponentError(PluginError, LookupError):
    """Name of a component that was removed."""


class ComponentLoadError(PluginError, ImportError):
    """Component that cannot be imported, or whose object has the wrong type."""


class HookFailedError(PluginError):
    """Refusal by a guard, or failure of one of its hooks. Failures of observers are only counted."""


# Artifact and config


class ConfigError(BSMError, ValueError):
    """Missing or invalid keys of a config; ``details`` has a line for each.

    Example:
        Print each key that cannot be used::

            try:
                bsm_core.ArtifactConfig.from_mapping({}, where="my config")
            except ConfigError as error:
                print(*error.details, sep="\\n")
    """


class PipelineError(ConfigError):
    """List of text steps of which some cannot be built or do not fit each other."""


class ArtifactError(BSMError):
    """Base class of errors in the artifact's files; also a file that cannot be read or extracted."""


class MissingArtifactFilesError(ArtifactError, FileNotFoundError):
    """Missing files of the artifact; ``details`` has a line for each."""


class CorruptArtifactError(ArtifactError, ValueError):
    """File of the artifact that is damaged or has unexpected content."""


class UnsafeArtifactError(ArtifactError, ValueError):
    """File of the artifact that would run code or be extracted to another folder."""


class WeightsMismatchError(ArtifactError, ValueError):
    """Weights whose keys or shapes differ from those of the model class."""


class TokenizerError(ArtifactError, OSError):
    """Missing or unreadable tokenizer, or missing config of the text encoder."""


class SelfCheckError(ArtifactError):
    """Check rows with other probabilities here than when the artifact was packed."""


class ProvenanceError(ArtifactError):
    """Plugins, libraries or files that differ from those in the artifact's record; only with ``--strict``."""


# Data


class DataError(BSMError, ValueError):
    """Error in the input data."""


class TooManyBadRowsError(DataError):
    """More rows with an issue than ``--max-bad-rows`` allows."""


class NoInferenceDataError(BSMError, RuntimeError):
    """Data folder without data files, or with only empty ones."""


class MixedFormatsError(DataError, RuntimeError):
    """Data folder with files of several formats."""


class MissingColumnsError(BSMError, KeyError):
    """Missing columns that the artifact or a setting needs."""


# Run


class StepFailedError(BSMError, RuntimeError):
    """Text step that returned a wrong number of results, or that failed on empty text."""


class ModelFailedError(BSMError, RuntimeError):
    """Model class that raised an error, or whose results have a wrong shape or are not finite."""


class DivergedError(ModelFailedError):
    """Training in which loss or probabilities became NaN or infinite after finite ones."""


class SinkError(BSMError, OSError):
    """Output that could not be written."""


class StorageError(BSMError, OSError):
    """Object store that does not answer, or refuses access."""


class ObjectChangedError(StorageError):
    """Object that was replaced since it was looked up."""


class OutputInUseError(BSMError, RuntimeError):
    """Output folder into which another run writes."""


class NothingToResumeError(BSMError, RuntimeError):
    """Run with ``--resume require`` that does not continue an earlier run; nothing was touched."""


class EngineError(BSMError, RuntimeError):
    """Process of the run that failed or was killed."""


class CheckpointError(EngineError):
    """Checkpoint of a training job that cannot be read."""


class MemoryLimitError(BSMError, MemoryError):
    """Memory of a process that ran out, because of a limit or of the machine."""


class Interrupted(BaseException):
    """Exception that ends a command after a signal such as SIGTERM.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number
