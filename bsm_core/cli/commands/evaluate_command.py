"""``bsm evaluate``: how well predictions fit labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bsm_core.cli.arguments import add_path, number_from_0
from bsm_core.cli.command_parser import CommandParser, Commands
from bsm_core.cli.commands.run_command import add_arguments, give_table_flags
from bsm_core.cli.output import say, say_json, table_lines
from bsm_core.errors import quoted
from bsm_core.metrics.names import title_of
from bsm_core.tables.formats.dialect import PARSERS, Dialect

if TYPE_CHECKING:
    from bsm_core.evaluation import Evaluation
    from bsm_core.metrics.bootstrap import Estimate

_TABLES = (("auroc", "average_precision", "f1"), ("precision", "recall"), ("log_loss", "brier", "ece"))
"""Metrics of each table of classes, each of which fits into 80 columns."""
_LONGEST_NAME = 14


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("evaluate", help="measure how well predictions fit labels")
    about = "the output folder of a run, or a prediction file"
    add_path(parser, "predictions", metavar="OUTPUT", help=about)
    add_label_flags(parser, required=True)
    parser.add_argument("--json", action="store_true", help="print the evaluation as JSON")
    parser.set_defaults(handler=_evaluate, advice=give_table_flags)


def add_label_flags(parser: CommandParser, *, required: bool) -> None:
    """Add the flags that say where labels are, and how predictions are measured with them.

    Args:
        parser: The parser.
        required: Whether labels must be given.
    """
    about = "table with the id and label of each row"
    add_path(parser, "--labels", required=required, metavar="FILE", help=about)
    parser.add_argument(
        "--label-column", metavar="NAME", help="label column (default: that of training, or the only one beside the id)"
    )
    parser.add_argument("--id-field", metavar="COLUMN", help="id column (default: the first column of OUTPUT)")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="LABEL",
        help="label of each class, in order (default: those of training, or 0, 1, ...)",
    )
    parser.add_argument(
        "--resamples",
        type=number_from_0,
        default=1000,
        metavar="N",
        help="bootstrap resamples; 0 for no intervals (1000)",
    )
    parser.fill_later(lambda parser: add_arguments(parser.add_argument_group("how the labels are written"), PARSERS))


def label_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`bsm_core.evaluate` that the flags of :func:`add_label_flags` give."""
    names = ("label_column", "id_field", "classes", "resamples")
    return {"dialect": Dialect.of(vars(arguments)), **{name: getattr(arguments, name) for name in names}}


def _evaluate(arguments: argparse.Namespace) -> None:
    from bsm_core.evaluation import evaluate

    found = evaluate(arguments.predictions, arguments.labels, **label_arguments(arguments))
    if arguments.json:
        say_json(asdict(found))
    else:
        say("\n".join(_lines(found)))


def _lines(found: Evaluation) -> Iterator[str]:
    from bsm_core.evaluation.join_report import left_out_lines, repeated_lines, spelling_lines

    joined = found.joined
    yield f"rows evaluated: {found.rows:,} of {joined.prediction_rows:,}, label {quoted(found.label_column)}"
    yield from left_out_lines(joined)
    yield from spelling_lines(joined)
    yield from repeated_lines(joined)
    yield ""
    of_class = f"class {quoted(found.classes[1].name)}" if found.macro is None else "all classes"
    interval = f"{found.confidence:.0%} interval" if found.resamples else ""
    yield from table_lines([(of_class, "value", interval), *_rows(found.metrics)])
    yield from _notes(of_class, found.metrics)
    if found.macro is None or found.weighted is None:
        yield ""
        yield from table_lines([("class", "rows"), *((each.name, f"{each.rows:,}") for each in found.classes)])
    else:
        means = [("macro", "", found.macro), ("weighted", "", found.weighted)]
        rows = [*means, *((each.name, f"{each.rows:,}", each.metrics) for each in found.classes)]
        for metrics in _TABLES:
            yield ""
            yield from table_lines([("class", "rows", *map(title_of, metrics)), *_rows_of_classes(rows, metrics)])
        for name, _, estimates in rows:
            yield from _notes(name, estimates)
    if found.resamples:
        yield ""
        yield f"intervals: bootstrap, {found.resamples:,} resamples, not stratified, seed {found.seed}"


def _rows(metrics: Mapping[str, Estimate]) -> Iterator[tuple[str, str, str]]:
    for name, each in metrics.items():
        yield title_of(name), _value(each, 4), _interval(each, 4, " to ")


def _rows_of_classes(
    rows: Sequence[tuple[str, str, Mapping[str, Estimate]]], metrics: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    for name, count, estimates in rows:
        shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
        yield shown, count, *(_value(estimates[metric], 4) for metric in metrics)
        if any(estimates[metric].low is not None for metric in metrics):
            yield "", "", *(_interval(estimates[metric], 3, "-") for metric in metrics)


def _notes(whose: str, metrics: Mapping[str, Estimate]) -> Iterator[str]:
    """Yield a line for each note, with the metrics that have it."""
    notes: dict[str, list[str]] = {}
    for name, each in metrics.items():
        if each.note:
            notes.setdefault(each.note, []).append(title_of(name))
    for note, names in notes.items():
        yield f"  {whose}: {', '.join(names)}: {note}"


def _value(estimate: Estimate, digits: int) -> str:
    return "-" if estimate.value is None else f"{estimate.value:.{digits}f}"


def _interval(estimate: Estimate, digits: int, between: str) -> str:
    return "" if estimate.low is None else f"{estimate.low:.{digits}f}{between}{estimate.high:.{digits}f}"
