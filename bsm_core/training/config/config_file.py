"""The file of a training config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bsm_core.errors import BSMError, ConfigError, why_unreadable


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the config in a JSON file.

    Raises:
        ConfigError: The file does not exist, is not JSON, or does not hold an object.
    """
    try:
        values = json.loads(path.read_bytes())
    except BSMError:
        raise
    except OSError as error:
        reason, fix = why_unreadable(error)
        raise ConfigError(f"the config cannot be read: {reason}", where=str(path), fix=fix) from error
    except ValueError as error:
        raise ConfigError(
            f"the config cannot be read: {error}", where=str(path), fix="give the path of a JSON file"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"the config is a JSON {type(values).__name__}, not an object",
            where=str(path),
            fix='write {"key": value, ...}; docs/training.md lists the keys',
        )
    return values
