"""The versions of what the numbers of a model depend on."""

from __future__ import annotations

import importlib.metadata
import platform

__version__ = "0.2.0"

DISTRIBUTION = "bsm-core"
"""Name of this project's distribution. The name ``bsm`` on the public index is another project's."""
_FORMER_NAME = "bsm"
"""Name of the distribution before 0.2.0; artifacts of that time record it."""

_LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "pyarrow", "numpy")


def installed() -> dict[str, str]:
    """Return the versions of Python, this project and the libraries, by name; ``"unknown"`` without metadata."""
    return {
        "python": platform.python_version(),
        DISTRIBUTION: __version__,
        **{name: _version(name) for name in _LIBRARIES},
    }


def current_name(distribution: str) -> str:
    """Return the name of a distribution today, for one that a record may give by its former name."""
    return DISTRIBUTION if distribution == _FORMER_NAME else distribution


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a frozen program has the metadata that it was told to take along
        return "unknown"
