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
    """

    settings: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, others: Mapping[str, Sequence[Any]]) -> RunFile:
        """Read a file.

        A key is a flag without its hyphens at the beginning; an underscore stands for a hyphen. A flag without a value
        is ``true``, as if it was given, or ``false``.

        Args:
            path: The file.
            others: Values of each flag that is no setting, without the hyphens at the flag's beginning.

        Raises:
            UsageError: The file cannot be read, is not TOML, or has a key that is no flag; or such a flag has another
                value. What is wrong with a setting, :meth:`Settings.resolve` says.
        """
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            reason, fix = why_unreadable(error)
            raise UsageError(f"the file of --config cannot be read: {reason}", where=str(path), fix=fix) from error
        except ValueError as error:
            fix = 'write lines such as batch-size = 64, and texts in quotes: id-field = "customer_id"'
            raise UsageError(f"the file of --config is not TOML: {error}", where=str(path), fix=fix) from error
        names = {_key(source.flag): name for name, source in sources().items()}
        known = {*names, *others}
        if unknown := [key for key in content if _key(key) not in known]:
            near = {key: nearest(_key(key), known) for key in unknown}
            details = [f"{key!r}" + (f"; did you mean {other!r}?" if other else "") for key, other in near.items()]
            what = "the file of --config has keys that are no flags of bsm run"
            raise UsageError(what, where=str(path), details=details, fix="see bsm run --help")
        found = {
            names[_key(key)]: (_value(names[_key(key)], given), f"{path}: {key}")
            for key, given in content.items()
            if _key(key) in names
        }
        settings = {name: pair for name, pair in found.items() if pair[0] is not None}
        given = {_key(key): value for key, value in content.items() if _key(key) in others}
        for key, value in given.items():
            if value not in others[key]:
                fix = f"write one of {', '.join(json.dumps(each) for each in others[key])}"
                raise UsageError(f"{key} in the file of --config is {value!r}", where=str(path), fix=fix)
        return cls(settings, given)


def _key(name: str) -> str:
    return name.lstrip("-").replace("_", "-")


def _value(name: str, given: Any) -> Any:
    """Return the value of a setting: of a flag without a value, ``true`` changes the default."""
    default = Settings.model_fields[name].default
    if isinstance(default, bool) and isinstance(given, bool):
        return not default if given else None
    return given
