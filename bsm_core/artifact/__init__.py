"""Artifacts: unpacking, checking, loading and saving them.

The names are imported on first use, so that unpacking an archive does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsm_core.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from bsm_core.artifact.description import Description, describe
    from bsm_core.artifact.load import Artifact
    from bsm_core.artifact.save import pack, save_artifact
    from bsm_core.artifact.untrusted.archives.archive import unpacked
    from bsm_core.artifact.untrusted.archives.limits import Limits

_NAMES = {
    "description": ("Description", "describe"),
    "load": ("Artifact",),
    "save": ("pack", "save_artifact"),
    "untrusted.archives.archive": ("unpacked",),
    "untrusted.archives.limits": ("Limits",),
}
__all__ = ["Artifact", "Description", "Limits", "describe", "pack", "save_artifact", "unpacked"]
__getattr__ = lazy_names(__name__, _NAMES)
