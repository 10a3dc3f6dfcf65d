"""The plugin contract: what a distribution can add to bsm.

A plugin adds names in its metadata, so that they are known before any of its code runs: each is an entry point of a
group below. Hooks, which see a run go by, are functions of an entry point of ``bsm.v1.guards`` or ``bsm.v1.observers``
and are called through pluggy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

PROJECT = "bsm"
"""Beginning of every entry-point group, and name of the pluggy project."""

CONTRACT = 1
"""Version of this contract. It stands in the names of the groups: a host reads those of the version that it speaks."""

Kind = Literal["step", "model_class", "removed", "guard", "observer"]
GROUPS: Mapping[str, Kind] = {
    f"{PROJECT}.v{CONTRACT}.steps": "step",
    f"{PROJECT}.v{CONTRACT}.model_classes": "model_class",
    f"{PROJECT}.v{CONTRACT}.removed": "removed",
    f"{PROJECT}.v{CONTRACT}.guards": "guard",
    f"{PROJECT}.v{CONTRACT}.observers": "observer",
}
"""The entry-point groups, and what an entry point of each is."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Removed:
    """What an entry point of ``bsm.v1.removed`` leads to: ``old_step = Removed(since="2.0", instead="new_step")``."""

    since: str
    instead: str = ""


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
        """SHA-256 of each file, by its name relative to :attr:`folder`."""

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
        """The window that the rows come from, with its ``index``, ``kept`` columns and ``findings``."""


@dataclass(frozen=True)
class Committed:
    """What a commit wrote.

    Attributes:
        path: The prediction file.
        rows: Its number of rows.
        windows: How many windows it was made of.
        counts: Sums of the counts that came with the parts.
    """

    path: Path
    rows: int
    windows: int
    counts: dict[str, float]


@hookspec
def bsm_artifact_loaded(artifact: ArtifactView) -> None:
    """Look at an artifact before its model is built; raise to refuse it.

    It is called in every process that loads the artifact. A complete guard, ``acme_vouch.py``::

        import os
        from pathlib import Path

        from bsm_core import hookimpl

        @hookimpl
        def bsm_artifact_loaded(artifact):
            vouched = Path(os.environ["ACME_VOUCHED"]).read_text().split()
            if artifact.hashes["hyperparameters.json"] not in vouched:
                raise ValueError("nobody vouched for this artifact")

    and in its ``pyproject.toml``::

        [project.entry-points."bsm.v1.guards"]
        acme_vouch = "acme_vouch"

    Args:
        artifact: The artifact: its config, its tables and, by file name, its ``hashes``.
    """


@hookspec
def bsm_window_start(batch: BatchView) -> None:
    """A window is about to be scored, in this process.

    Args:
        batch: What the model will see, on its device. Read it; do not change it. ``batch.window`` has the number of the
            window (``index``), the kept columns (``kept``, the id first) and what was odd about it (``findings``).
    """


@hookspec
def bsm_window_end(batch: BatchView, probabilities: Tensor) -> Mapping[str, float] | None:
    """A window was scored, in this process, and is about to be written.

    A complete observer, ``acme_drift.py``, with the entry point ``acme_drift = "acme_drift"`` in the group
    ``bsm.v1.observers``::

        from bsm_core import hookimpl

        @hookimpl
        def bsm_window_end(batch, probabilities):
            sure = (probabilities.max(dim=1).values > 0.9).sum()
            return {"sure": int(sure)}

    Args:
        batch: As in :func:`bsm_window_start`.
        probabilities: float64 ``[rows, classes]``, on the model's device. Read them; do not change them.

    Returns:
        Numbers to be summed over all windows, each counted once whatever the number of processes; the sums stand in the
        run record's ``counts`` as ``plugin:<entry point>:<key>``. Or None.
    """


@hookspec
def bsm_committed(committed: Committed, record: Mapping[str, Any]) -> None:
    """The predictions are in place; ``_SUCCESS`` is not yet.

    It is called once a run. A complete observer, ``acme_register.py``, with an entry point in ``bsm.v1.observers``::

        import json
        import os

        from bsm_core import hookimpl

        @hookimpl
        def bsm_committed(committed, record):
            with open(os.environ["ACME_RUNS"], "a") as runs:
                print(json.dumps([str(committed.path), committed.rows, record["finished"]]), file=runs)

    Args:
        committed: The prediction file (``path``), its ``rows`` and ``windows``, and the sums of all ``counts``.
        record: The run record, as ``run.json`` has it.
    """
