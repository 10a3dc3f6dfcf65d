"""Versions of this project and of the libraries that a model's probabilities depend on."""

from __future__ import annotations

import importlib.metadata
import platform

__version__ = "0.2.0"

DISTRIBUTION = "bsm-core"
"""Name of this project's distribution. On the public package index, ``bsm`` is another project."""
_FORMER_NAME = "bsm"
"""Name of the distribution before 0.2.0; artifacts of that time record it."""

_LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "pyarrow", "numpy")


def installed() -> dict[str, str]:
    """Return the versions of Python, this project and the libraries, by name; ``"unknown"`` without metadata."""
    ours = {"python": platform.python_version(), DISTRIBUTION: __version__}
    return ours | {name: _version(name) for name in _LIBRARIES}


def current_name(distribution: str) -> str:
    """Return the present name of a distribution, of which a record may have the former name."""
    return DISTRIBUTION if distribution == _FORMER_NAME else distribution


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a frozen program may lack the metadata of its libraries
        return "unknown"
