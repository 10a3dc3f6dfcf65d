"""A user's script, which type checkers accept; ``make check`` runs mypy on it.

A comment marks each line that they must refuse. A comment without an error is an error itself.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import bsm_core
from bsm_core import Issue, Predictor, RunResult, train


def told(issue: Issue) -> None:
    print(issue.row, issue.column, issue.value)


def progress(rows: int, share: float | None) -> None:
    print(rows, share)


predictor = Predictor.from_artifact("model.tar.gz", device="cpu", on_bad_row="null")
rows: list[dict[str, object]] = [{"chat": "hello", "amount": 1}, {"chat": None}]
first: float = float(predictor.predict_proba(rows, on_issue=told)[0, 1])
frame: pd.DataFrame = predictor.predict({"chat": ["a"], "amount": [1.0]}, predicted_class=True)
names: list[str] = list(frame.columns)
again = predictor.predict(frame)
tables = predictor.score(Path("data"), id_field="id", keep_columns=["a"], csv_delimiter=";", on_issue=told)
counted = sum(table.num_rows for table in tables)
sizes: Iterator[int] = (len(each) for each in predictor.predict_batches([rows, rows]))
result: RunResult = bsm_core.run(model_dir="m", data_dir=Path("d"), output_dir="o", on_progress=progress, devices=2)
print(result.path.name, result.rows + 1, result.seconds / 2, result.counts["bad_rows"], result.record["settings"])
print(predictor.classes_.tolist(), predictor.feature_names_in_[0], train("config.json", rows, "new").folder)

predictor.predict(3)  # type: ignore[arg-type]
predictor.predict("rows.csv")  # type: ignore[arg-type]
predictor.score("d", window_rows="x")  # type: ignore[arg-type]
predictor.predicts(rows)  # type: ignore[attr-defined]
bsm_core.run(on_progress=told)  # type: ignore[arg-type]
result.rows.lower()  # type: ignore[attr-defined]
