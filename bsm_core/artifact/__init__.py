"""Artifacts: unpacking, checking, loading and saving them.

The names are imported on first use, so that unpacking an archive does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsm_core.runtime.lazy import lazy_names

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

__getattr__ = lazy_names(__name__, _HOMES)
