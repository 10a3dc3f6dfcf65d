"""The versions of what the numbers of a model depend on."""

from __future__ import annotations

import importlib.metadata
import platform

from bsm_core import __version__

_LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "pyarrow", "numpy")


def installed() -> dict[str, str]:
    """Version by name, of Python, bsm and these libraries as they are installed; ``"unknown"`` without metadata."""
    return {"python": platform.python_version(), "bsm": __version__, **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a frozen program has the metadata that it was told to take along
        return "unknown"
