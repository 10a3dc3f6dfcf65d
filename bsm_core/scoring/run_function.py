"""``bsm_core.run``: a scoring job from Python."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from bsm_core.errors import BSMError, require_callable
from bsm_core.runtime.memory import explaining_memory
from bsm_core.runtime.profile import Advance, Event, listening
from bsm_core.runtime.signals import interruptible_call
from bsm_core.scoring import attempt as attempt  # imported before signals are handled: it loads torch
from bsm_core.scoring import job
from bsm_core.scoring.engines.finish import RunResult
from bsm_core.scoring.settings import Settings, sources

OnProgress: TypeAlias = Callable[[int, float | None], object]
"""Function of the number of rows so far, and of the estimated share of the input that they are; None if unknown."""


def run(
    *,
    model_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    id_field: str | None = None,
    job_type: str = "inference",
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> RunResult:
    """Score a table with an artifact, from file to file, as the command ``bsm run`` does.

    Log lines go to the logger ``"bsm"``, as the program has configured it; with several processes, each writes its own
    to standard error. After the call, handlers of signals and the
    levels of loggers are what they were before it. In another thread than the main one, no handler is changed.

    Args:
        model_dir, data_dir, output_dir, id_field, job_type: See :class:`bsm_core.Settings`. None: not set.
        on_progress: Function of the number of rows so far, and of the estimated share of the input that they are: 0 to
            1, or None if it is unknown. It is called in this thread, after each window or, with several processes,
            about once a second. An exception of the function ends the run. The last call has all rows and 1; the
            predictions are complete then, whatever it raises.
        settings: The other fields of :class:`bsm_core.Settings`, such as ``devices=2``. They are the flags of
            ``bsm run``, with underscores. A setting that is not given, or None, is that of its environment variable.

    Returns:
        The prediction file, the number of its rows, the counts of row issues, and the run record.

    Raises:
        UsageError: A setting has an invalid value, or does not exist.
        BSMError: The run failed; the output folder holds ``_FAILURE``.
        KeyboardInterrupt: Ctrl-C ended the run, which the same call resumes.

    Example:
        Score a table, and print how many rows had an issue::

            places = {"model_dir": "model.tar.gz", "data_dir": "rows.csv", "output_dir": "predictions"}
            result = bsm_core.run(**places, id_field="id")
            print(result.path, result.rows, result.counts.get("bad_rows", 0))
    """
    require_callable("on_progress", on_progress, "the number of rows and of their share")
    places = {"model_dir": model_dir, "data_dir": data_dir, "output_dir": output_dir}

    def tell(event: Event) -> None:
        if isinstance(event, Advance) and event.share < 1 and on_progress is not None:
            try:
                on_progress(event.rows, event.share or None)
            except StopIteration as error:  # Lightning would take it for the end of the data
                raise RuntimeError("on_progress raised StopIteration") from error

    flags = {**places, "id_field": id_field, "job_type": job_type, **settings}
    try:
        follow = nullcontext() if on_progress is None else listening(tell, shows=False)
        with interruptible_call(), explaining_memory(), follow:
            result = job.run(flags, os.environ)
    except BSMError as error:
        _name_settings_as_python_does(error)
        raise
    if on_progress is not None:
        on_progress(result.rows, 1.0)
    return result


def _pass_settings(settings: Sequence[Mapping[str, str]]) -> str:
    given = (", ".join(f"{name}={value!r}" for name, value in each.items()) for each in settings)
    return f"pass {' or '.join(given)}" if settings else ""


def _name_settings_as_python_does(error: BSMError) -> None:
    """Let an error name arguments instead of flags."""
    error.what = _in_python(error.what)
    error.where, error.fix = (text and _in_python(text) for text in (error.where, error.fix))
    error.args, error.details = (error.what,), tuple(map(_in_python, error.details))
    error.advice = _pass_settings


_HELP = "see bsm run --help"
_FLAG = re.compile(
    r"`[^`]*`|(?<![\w'\"/-])(--[a-z][a-z_-]*)(?: ('[^']*'|[0-9][0-9.]*%?|[A-Z]+(?:/[A-Z])?\b|[a-z]+\b))?"
)
"""A command, which stays as it is; or a flag, with what may be its value."""


def _in_python(text: str) -> str:
    """Return a text with the arguments of :func:`run` in place of the flags of ``bsm run``."""
    names = {source.flag: name for name, source in sources().items()}

    def argument(match: re.Match[str]) -> str:
        name, value = names.get(match[1]), match[2]
        if name is None:
            return match[0]
        field = Settings.model_fields[name]
        if text[match.end() :].startswith(":"):  # the text is about the setting
            return f"{name}={value!r}" if value else name
        if isinstance(field.default, bool):
            return f"{name}={not field.default}" + (f" {value}" if value else "")
        if not value:
            return name
        is_word = value.islower() and value != field.default and f"'{value}'" not in str(field.annotation)
        if is_word:  # of the sentence
            return f"{name} {value}"
        return f"{name}={value if value.isupper() or value.isdecimal() else repr(value.strip(chr(39)))}"

    return _FLAG.sub(argument, text.replace(_HELP, "see help(bsm_core.Settings)"))
