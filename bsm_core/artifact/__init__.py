"""Artifacts: unpacking, checking, loading and saving them.

The names are imported on first use, so that unpacking an archive does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bsm_core.artifact.description import Description as Description
    from bsm_core.artifact.description import describe as describe
    from bsm_core.artifact.load import Artifact as Artifact
    from bsm_core.artifact.save import pack as pack
    from bsm_core.artifact.save import save_artifact as save_artifact
    from bsm_core.artifact.untrusted.archive import Limits as Limits
    from bsm_core.artifact.untrusted.archive import unpacked as unpacked

_HOMES = {
    "Artifact": "load",
    "Description": "description",
    "Limits": "untrusted.archive",
    "describe": "description",
    "pack": "save",
    "save_artifact": "save",
    "unpacked": "untrusted.archive",
}
__all__ = ["Artifact", "Description", "Limits", "describe", "pack", "save_artifact", "unpacked"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
