"""The plugin contract: the entry-point groups and the hooks through which a distribution extends bsm.

A plugin names its components in its metadata, so that they are known before any of its code runs: each name is an entry
point of one of the groups in :data:`GROUPS`. Hooks are functions marked with :data:`hookimpl` and are called through
pluggy. One hook registers components in code; the other four see a run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

PROJECT = "bsm"
"""First word of every entry-point group, and name of the pluggy project."""

CONTRACT = 1
"""Version of the plugin contract. Every group's name contains the version; a host reads the groups of its version."""

Named = Literal["step", "model_class"]
"""Kind of a component that a config names."""
ComponentKind = Literal["step", "model_class", "removed", "guard", "observer", "plugin"]
"""Kind of a component, determined by its entry-point group."""

GROUPS: Mapping[str, ComponentKind] = {
    f"{PROJECT}.v{CONTRACT}.steps": "step",
    f"{PROJECT}.v{CONTRACT}.model_classes": "model_class",
    f"{PROJECT}.v{CONTRACT}.removed": "removed",
    f"{PROJECT}.v{CONTRACT}.guards": "guard",
    f"{PROJECT}.v{CONTRACT}.observers": "observer",
    f"{PROJECT}.v{CONTRACT}.plugins": "plugin",
}
"""Kind of component for each entry-point group."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Pattern of a component's name: lower_snake."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Removed:
    """Note about a removed name.

    An entry point of the group ``bsm.v1.removed`` points to the note.

    Example:
        Say what replaces a step that a plugin no longer has::

            old_step = Removed(since="2.0", instead="new_step")
    """

    since: str
    instead: str = ""


class Registrar:
    """Collector that a plugin's :func:`bsm_register` adds text steps and model classes to.

    Args:
        named: Kinds and names of the entry points of the plugin's distribution.

    Attributes:
        classes: The added classes, by kind and name.
    """

    def __init__(self, named: Collection[tuple[ComponentKind, str]] = ()) -> None:
        self.classes: dict[tuple[Named, str], type] = {}
        self._named = named

    def add_step(self, name: str, cls: type) -> None:
        """Register a text step.

        Args:
            name: Name that configs use, lower_snake.
            cls: Subclass of :class:`bsm_core.TextStep`.

        Raises:
            ValueError: The name is not lower_snake, or the plugin has registered it before or names it in its metadata.
            TypeError: ``cls`` is not a class.
        """
        self._add("step", name, cls)

    def add_model_class(self, name: str, cls: type) -> None:
        """Register a model class, a subclass of :class:`bsm_core.ModelBase`; see :meth:`add_step`."""
        self._add("model_class", name, cls)

    def _add(self, kind: Named, name: str, cls: type) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"the name {name!r} is not lower_snake")
        if not isinstance(cls, type):
            raise TypeError(f"{name!r} must be a class, not a {type(cls).__name__}")
        if (kind, name) in self.classes:
            raise ValueError(f"{name!r} is registered twice")
        if (kind, name) in self._named:
            raise ValueError(f"{name!r} is an entry point of the distribution already")
        self.classes[kind, name] = cls


class ArtifactView(Protocol):
    """The artifact as hooks see it; a :class:`bsm_core.Artifact` has these attributes."""

    @property
    def folder(self) -> Path:
        """Folder of the artifact's files."""

    @property
    def config(self) -> Any:
        """The checked config, a :class:`bsm_core.ArtifactConfig`."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of each file, by file name relative to :attr:`folder`."""

    @property
    def impute(self) -> Mapping[str, float]:
        """Imputation value of each numeric feature."""

    @property
    def risk_tables(self) -> Mapping[str, Any]:
        """Risk table of each categorical feature: ``{"bins": {category: value}, "default_bin": value}``."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that the artifact was trained with."""


class BatchView(Protocol):
    """One window's batch as hooks see it; a :class:`bsm_core.Batch` has these attributes."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def texts(self) -> Mapping[str, Any]:
        """The :class:`bsm_core.TextBatch` of each text column."""

    @property
    def features(self) -> Tensor:
        """The feature matrix, float32 ``[rows, features]``."""

    @property
    def window(self) -> Any:
        """Window that the rows come from: its ``index``, its ``kept`` columns (the id first) and its ``findings``."""


@dataclass(frozen=True)
class Committed:
    """Result of a commit.

    Attributes:
        path: The prediction file.
        rows: Number of rows in the file.
        windows: Number of windows that were scored.
        counts: Counts, summed over all windows.
        classes: Number of rows of which each class is the most probable one; of more than 1,000 classes, the last
            number is that of all others. Empty if no row has probabilities.
    """

    path: Path
    rows: int
    windows: int
    counts: dict[str, float]
    classes: tuple[int, ...] = ()


@hookspec
def bsm_register(registry: Registrar) -> None:
    """Register text steps and model classes in code.

    Metadata are the usual way to name a component. Use this hook for names that only code can list, such as one model
    class for each size of a network. The hook is called when a config names a component that no metadata name, and by
    ``bsm plugins --errors``; it is called again in every process that needs such a name. A complete plugin,
    ``acme_zoo.py``::

        from bsm_core import TextStep, hookimpl

        class Repeat(TextStep):
            times = 1

            def process(self, value):
                return value * self.times

        @hookimpl
        def bsm_register(registry):
            for times in (2, 3):
                step = type(f"Repeat{times}", (Repeat,), {"times": times})
                registry.add_step(f"acme_repeat_{times}", step)

    The entry point in its ``pyproject.toml``::

        [project.entry-points."bsm.v1.plugins"]
        acme_zoo = "acme_zoo"

    Args:
        registry: Collector with the methods ``add_step(name, cls)`` and ``add_model_class(name, cls)``.
    """


@hookspec
def bsm_artifact_loaded(artifact: ArtifactView) -> None:
    """Inspect an artifact before its model is built; raise to refuse the artifact.

    The hook is called in every process that loads the artifact. A complete guard, ``acme_vouch.py``::

        import os
        from pathlib import Path

        from bsm_core import hookimpl

        @hookimpl
        def bsm_artifact_loaded(artifact):
            vouched = Path(os.environ["ACME_VOUCHED"]).read_text().split()
            if artifact.hashes["hyperparameters.json"] not in vouched:
                raise ValueError("nobody vouched for this artifact")

    The entry point in its ``pyproject.toml``::

        [project.entry-points."bsm.v1.guards"]
        acme_vouch = "acme_vouch"

    Args:
        artifact: The artifact: its config, its tables, and the ``hashes`` of its files.
    """


@hookspec
def bsm_window_start(batch: BatchView) -> None:
    """Inspect a window that is about to be scored in this process.

    Args:
        batch: The model's input, on the model's device. Read it; do not change it. ``batch.window`` has the number of
            the window (``index``), the kept columns (``kept``, the id first) and the irregularities that were found in
            its rows (``findings``).
    """


@hookspec
def bsm_window_end(batch: BatchView, probabilities: Tensor) -> Mapping[str, float] | None:
    """Inspect a window that was scored in this process and is about to be written.

    A complete observer, ``acme_drift.py``, with the entry point ``acme_drift = "acme_drift"`` in the group
    ``bsm.v1.observers``::

        from bsm_core import hookimpl

        @hookimpl
        def bsm_window_end(batch, probabilities):
            sure = (probabilities.max(dim=1).values > 0.9).sum()
            return {"sure": int(sure)}

    Args:
        batch: The model's input, as in :func:`bsm_window_start`.
        probabilities: float64 ``[rows, classes]``, on the model's device. Read them; do not change them. With
            ``--on-bad-row null``, those of a row for which the model class fails are NaN.

    Returns:
        Finite numbers by name, or None. bsm sums each number over all windows, each window once, whatever the number of
        processes. The sums appear in the run record's ``counts`` as ``plugin:<entry point>:<name>``.
    """


@hookspec
def bsm_committed(committed: Committed, record: Mapping[str, Any]) -> None:
    """Inspect a run whose predictions are in place and whose ``_SUCCESS`` marker is not written yet.

    The hook is called once for each run. A complete observer, ``acme_register.py``, with an entry point in
    ``bsm.v1.observers``::

        import json
        import os

        from bsm_core import hookimpl

        @hookimpl
        def bsm_committed(committed, record):
            with open(os.environ["ACME_RUNS"], "a") as runs:
                print(json.dumps([str(committed.path), committed.rows, record["finished"]]), file=runs)

    Args:
        committed: The prediction file (``path``), its ``rows`` and ``windows``, and the sums of all ``counts``.
        record: The run record, with the content of ``run.json``.
    """
