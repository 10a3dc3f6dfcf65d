"""The plugin contract: what a distribution can add to bsm, one hook a noun.

A plugin is a module named by an entry point of the group ``bsm``. It imports nothing heavy: it answers with names
and lazy ``"module:Class"`` targets, which are imported only when an artifact names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pluggy

PROJECT = "bsm"
"""Name of the entry-point group and of the pluggy project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Alias:
    """Another name of a component of the same plugin: ``"bimodal": Alias("bimodal_bert")``."""

    of: str


@dataclass(frozen=True)
class Removed:
    """A name that is gone: ``"old_step": Removed(since="2.0", instead="new_step")``."""

    since: str
    instead: str = ""


Target = str | Alias | Removed
"""A lazy ``"module:Class"``, another name of one, or the tombstone of a name that was removed."""


@hookspec
def bsm_steps() -> Mapping[str, Target]:  # type: ignore[empty-body]
    """Text steps by name.

    A complete plugin, ``acme_shout.py``::

        from bsm_core import TextStep, hookimpl

        class Shout(TextStep):
            def process(self, value: str) -> str:
                return value.upper() + "!"

        @hookimpl
        def bsm_steps():
            return {"shout": "acme_shout:Shout"}

    and in its ``pyproject.toml``::

        [project.entry-points.bsm]
        shout = "acme_shout"

    Returns:
        Names (``lower_snake``) and targets that load as subclasses of :class:`bsm_core.TextStep`.
    """


@hookspec
def bsm_model_classes() -> Mapping[str, Target]:  # type: ignore[empty-body]
    """Model classes by name.

    A complete plugin, ``acme_mean.py`` (the class itself stands in ``acme_mean_model.py``, which imports torch)::

        from bsm_core import hookimpl

        @hookimpl
        def bsm_model_classes():
            return {"acme_mean": "acme_mean_model:AcmeMean"}

    Returns:
        Names (``lower_snake``) and targets that load as subclasses of :class:`bsm_core.ModelBase`.
    """
