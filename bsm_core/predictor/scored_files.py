"""Scoring the rows of files, window by window, for :meth:`bsm_core.Predictor.score`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.errors import UsageError, nearest, short_repr
from bsm_core.models.batch import Batch
from bsm_core.models.micro_batches import settle_threads
from bsm_core.predictor.issue_teller import IssueTeller
from bsm_core.predictor.probability_columns import check_names, with_probabilities
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.storage.objects import place
from bsm_core.tables.data_files import warn_of_passed_over
from bsm_core.tables.formats.dialect import PARSERS, Dialect, parse_kept
from bsm_core.tables.formats.folders import warn_of_no_marker
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import output_schema

Predict: TypeAlias = Callable[[Batch], npt.NDArray[np.float64]]


def opened(
    data: str | Path, on_bad_line: Literal["fail", "skip"], config: Mapping[str, Any], csv: Mapping[str, Any]
) -> TableSource:
    """Open data files.

    Args:
        data: A file, a folder or a pattern, by path or URL.
        on_bad_line: Whether a line that cannot be read is an error or is left out.
        config: The artifact's config, whose keys ``csv_*`` describe the files unless ``csv`` does.
        csv: Settings ``csv_*`` of the caller; None is not set.

    Raises:
        UsageError: There is no such setting, or a value cannot be used.
        BSMError: See :meth:`bsm_core.tables.read.TableSource.open`.
    """
    if unknown := [name for name in csv if name not in PARSERS]:
        near = nearest(unknown[0], PARSERS)
        what = f"score takes no argument {unknown[0]!r}" + (f"; did you mean {near!r}?" if near else "")
        raise UsageError(what, fix=f"the settings of files are {', '.join(PARSERS)}")
    if on_bad_line not in ("fail", "skip"):
        raise UsageError(f"on_bad_line={on_bad_line!r} cannot be used", fix="pass 'fail' or 'skip'")
    given = {name: value for name, value in csv.items() if value is not None}
    values = {name: config.get(name) for name in PARSERS} | given
    if given.get("csv_header") == "first" and "csv_columns" not in given:
        values["csv_columns"] = None  # names for files without a header
    called = {name: name if name in given else f"config.{name}" for name in PARSERS}
    source = TableSource.open(place(data), on_bad_line, Dialect.of(values, called))
    warn_of_passed_over(place(data), source.files)
    warn_of_no_marker(place(data))
    return source


def kept_names(given: str | Sequence[str]) -> list[str]:
    """Return the names of columns to copy, from a list or from a text with commas between them.

    Raises:
        UsageError: The value is something else.
    """
    try:
        names = parse_kept(given)
    except ValueError:
        names = None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"keep_columns={short_repr(given)} cannot be used", fix="pass a list of names of columns")
    return [*names]


def scored(
    source: TableSource,
    preprocessor: Preprocessor,
    predict: Predict,
    issues: IssueTeller,
    *,
    keep: Sequence[str],
    window_rows: int,
    predicted_class: bool,
) -> Iterator[pa.Table]:
    """Check the columns of a table; return an iterator over its windows with their probabilities.

    Args:
        source: The table.
        preprocessor: The preprocessor of the artifact.
        predict: Function that returns the probabilities of a batch.
        issues: Object that tells of the issues of each window.
        keep: Columns to copy, the id first; ``"all"`` stands for all.
        window_rows, predicted_class: See :meth:`bsm_core.Predictor.score`.

    Raises:
        UsageError: ``window_rows`` cannot be used.
        MissingColumnsError: Columns are missing.
        DataError: A column that is kept has the name of a column that is added.
    """
    if not isinstance(window_rows, int) or isinstance(window_rows, bool) or window_rows < 1:
        raise UsageError(f"window_rows={window_rows!r} cannot be used", fix="pass a number of rows, 1 or more")
    config = preprocessor.config
    classes = config.classes if predicted_class else None
    kept = [*dict.fromkeys(name for each in keep for name in (source.columns if each == "all" else [each]))]
    check_names(kept, config.num_classes, classes)
    source.require({**dict.fromkeys(kept, "score"), **preprocessor.wanted})
    source = source.typed(output_schema(source.schema(kept), source.format, "parquet"))
    preprocess = preprocessor.of_table(source, kept)

    def tables() -> Iterator[pa.Table]:
        with closing(source.windows([*dict.fromkeys([*kept, *preprocess.wanted])], rows=window_rows)) as windows:
            for window in windows:
                settle_threads()
                batch = preprocess(window)
                probabilities = predict(batch)
                issues.add(batch.window.findings.with_failed_rows(batch.failed), batch.rows)
                yield with_probabilities(batch.window.kept, probabilities, [*batch.failed], classes)
        issues.end(source.format)

    return tables()
