"""Events of a run: its plan at the beginning, and at the end what was done. See :mod:`bsm_core.runtime.profile`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsm_core.runtime.profile import Event

_NAMED = 8
"""Number of features that the plan names; of more, it says how many there are."""


@dataclass(frozen=True)
class Outline(Event):
    """The plan of a run, for people. What makes two runs the same run is :mod:`bsm_core.scoring.plan`.

    Attributes:
        data, model, output: The places.
        rows: Number of rows; None if it is not known before all are read.
        done: Number of rows that earlier attempts have scored.
        window_rows: Rows that are scored at a time.
        files: Number of data files, and their format.
        devices: Devices in words.
        model_class: Name of the model class.
        compat: Config key ``compat``: whose numbers the run gives; None: those of bsm.
        precision: Precision of the text encoders.
        backends: Backend of each text encoder, by its name in the model.
        text: Names of the steps of each text column.
        features: Names of the features.
        kept: Names of the columns that are copied to the output, the id first.
        classes: Number of classes.
        provided: Package and version that provides a component, by the component, of those that are not bsm's own.
        embeddings: The file of the embeddings; empty if they are not asked for.
    """

    data_path: str
    model: str
    output: str
    rows: int | None
    done: int
    window_rows: int
    files: str
    devices: str
    model_class: str
    compat: str | None
    precision: str
    backends: Mapping[str, str]
    text: Mapping[str, Sequence[str]]
    features: Sequence[str]
    kept: Sequence[str]
    classes: int
    provided: Mapping[str, str]
    embeddings: str = ""

    def entries(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of a title and a text."""
        windows = -(-(self.rows or 0) // self.window_rows) or 1
        rows = "as many as there are" if self.rows is None else f"{self.rows:,} in {windows:,} window(s)"
        done = f"; {self.done:,} are done already" if self.done else ""
        backends = ", ".join(dict.fromkeys(self.backends.values())) or "none, because there is no text encoder"
        features = [*self.features[:_NAMED], *(["..."] if self.features[_NAMED:] else [])]
        probabilities = [f"prob_class_{i}" for i in (0, self.classes - 1)]
        if self.classes > 2:
            probabilities.insert(1, "...")
        count = f"{len(self.features)}: {', '.join(features)}" if features else "none"
        found = [
            ("data", f"{self.data_path} ({self.files})"),
            ("rows", f"{rows}, {self.window_rows:,} at a time{done}"),
            ("model", f"{self.model} ({self.model_class}{f', compat: {self.compat}' if self.compat else ''})"),
            ("device", f"{self.devices}, {self.precision}, backend {backends}"),
            *((f"text {column!r}", " > ".join(steps)) for column, steps in self.text.items()),
            ("features", count),
            ("columns", ", ".join([*self.kept, *probabilities])),
            *((f"{what} from", package) for what, package in self.provided.items()),
            ("output", self.output),
            ("embeddings", self.embeddings),
        ]
        return [(title, text) for title, text in found if text]

    def lines(self) -> Sequence[str]:
        """Return one message: the plan, with a line for each of its parts."""
        return ["\n".join(["plan", *(f"{title}: {text}" for title, text in self.entries())])]


@dataclass(frozen=True)
class Finished(Event):
    """End of a run: what was done.

    Attributes:
        path: The prediction file.
        rows: Number of rows in the file.
        earlier: Number of those that earlier attempts had scored.
        seconds: Seconds of this attempt.
        devices, asked: Devices that were used, and what was asked for.
        counts: See :class:`bsm_core.plugins.hookspecs.Committed`.
        classes: See :class:`bsm_core.plugins.hookspecs.Committed`.
        row_issues: File with the row issues; None if it was not asked for.
        embeddings: File of the embeddings; None if it was not asked for.
        limit: Number of rows to which the run was limited; None if it was not.
        names: Name of each class, or its label where that is an integer.
        report: The report; None if it was not asked for.
        recorded: Whether ``bsm report`` can draw all of the run: its record lies beside the predictions.
    """

    path: Path
    rows: int
    earlier: int
    seconds: float
    devices: str
    asked: str
    counts: Mapping[str, float]
    classes: Sequence[int] = ()
    row_issues: Path | None = None
    embeddings: Path | None = None
    limit: int | None = None
    names: Sequence[str | int] = ()
    report: Path | None = None
    recorded: bool = False

    def data(self) -> dict[str, Any]:
        """Return the fields for ``--log-format json``."""
        names = ("path", "row_issues", "embeddings", "report")
        paths = {name: getattr(self, name) for name in names}
        return {**super().data(), **{name: path and str(path) for name, path in paths.items()}}

    def lines(self) -> Sequence[str]:
        """Return the messages: rows and seconds, and where the predictions are."""
        rows = self.rows - self.earlier
        rate = f"{rows / max(self.seconds, 1e-9):,.0f} rows/s"
        return [
            f"{rows:,} rows in {self.seconds:.1f} s ({rate}) on {self.devices}, device asked for: {self.asked}",
            *([f"{self.rows:,} rows with those of earlier attempts"] if self.earlier else []),
            f"predictions: {self.path}",
            *([f"embeddings: {self.embeddings}"] if self.embeddings else []),
        ]
