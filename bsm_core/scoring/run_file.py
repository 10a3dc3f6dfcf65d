"""Flags of ``bsm run`` in a TOML file, for ``--config``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bsm_core.errors import UsageError, nearest, why_unreadable
from bsm_core.scoring.settings import Settings, sources


@dataclass(frozen=True)
class RunFile:
    """Values of a file.

    Attributes:
        settings: Value of each setting that the file has, by the setting's name, with its place for messages.
        others: Values of flags that are no settings, by flag, without the hyphens at its beginning.
        problem: Error of a file whose keys cannot be used. What is wrong with the value of a setting,
            :meth:`Settings.resolve` says.
    """

    settings: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    problem: UsageError | None = None

    @classmethod
    def read(cls, path: Path, others: Mapping[str, Sequence[Any]]) -> RunFile:
        """Read a file.

        A key is a flag without its hyphens at the beginning; an underscore stands for a hyphen. A flag without a value
        is ``true``, as if it was given, or ``false``.

        Args:
            path: The file.
            others: Values of each flag that is no setting, without the hyphens at the flag's beginning.

        Raises:
            UsageError: The file cannot be read, or is not TOML.
        """
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            reason, fix = why_unreadable(error)
            raise UsageError(f"the file of --config cannot be read: {reason}", where=str(path), fix=fix) from error
        except (ValueError, RecursionError) as error:
            fix = 'write lines such as batch-size = 64, and texts in quotes: id-field = "customer_id"'
            raise UsageError(f"the file of --config is not TOML: {error}", where=str(path), fix=fix) from error
        names = {_key(source.flag): name for name, source in sources().items()}
        settings, of_others = {}, {}
        for key, given in content.items():
            if name := names.get(_key(key)):
                settings[name] = _value(name, given), f"{path}: {key}"
            elif _is_one_of(given, others.get(_key(key), ())):
                of_others[_key(key)] = given
        return cls(settings, of_others, _problem_of(path, content, {**dict.fromkeys(names), **others}))


def _problem_of(path: Path, content: Mapping[str, Any], known: Mapping[str, Sequence[Any] | None]) -> UsageError | None:
    """Return what is wrong with the keys of a file, and with the values of those that are no settings.

    Args:
        path: The file.
        content: What it holds.
        known: Values of each flag, without the hyphens at its beginning; None: those of a setting.
    """
    if unknown := [key for key in content if _key(key) not in known]:
        near = {key: nearest(_key(key), known) for key in unknown}
        details = [f"{key!r}" + (f"; did you mean {other!r}?" if other else "") for key, other in near.items()]
        what = "the file of --config has keys that are no flags of bsm run"
        return UsageError(what, where=str(path), details=details, fix="see bsm run --help")
    first: dict[str, str] = {}
    for key, value in content.items():
        values, other = known[_key(key)], first.setdefault(_key(key), key)
        if other != key:
            what = f"the file of --config has one flag twice: {other} and {key}"
            return UsageError(what, where=str(path), fix="remove one of them")
        if values is not None and not _is_one_of(value, values):
            fix = f"write one of {', '.join(json.dumps(each) for each in values)}"
            return UsageError(f"{key} in the file of --config is {value!r}", where=str(path), fix=fix)
    return None


def _key(name: str) -> str:
    return name.lstrip("-").replace("_", "-")


def _is_one_of(value: Any, values: Sequence[Any]) -> bool:
    return any(type(value) is type(each) and value == each for each in values)  # 1 is equal to True


def _value(name: str, given: Any) -> Any:
    """Return the value of a setting: of a flag without a value, ``true`` changes the default."""
    default = Settings.model_fields[name].default
    return given is not default if isinstance(default, bool) and isinstance(given, bool) else given
