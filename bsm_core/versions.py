"""The versions of what the numbers of a model depend on."""

from __future__ import annotations

import importlib.metadata
import platform

_LIBRARIES = ("bsm", "torch", "lightning", "transformers", "tokenizers", "pyarrow", "numpy")


def installed() -> dict[str, str]:
    """Version by name, of Python and of these libraries as they are installed here."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _LIBRARIES}}
