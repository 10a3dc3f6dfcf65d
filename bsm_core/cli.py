"""The ``bsm`` command: ``run``, ``train``, ``plugins``, ``inspect``, ``pack``, ``export``, ``convert``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bsm_core import __version__
from bsm_core.artifact.files import writing
from bsm_core.errors import BSMError, HookFailedError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``bsm``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bsm", description="Batch inference for text and tabular classifiers.")
    parser.add_argument("--version", action="version", version=f"bsm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_run, _add_train, _add_plugins, _add_inspect, _add_pack, _add_export, _add_convert):
        add(commands)
    arguments = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace], int] = arguments.handler
    try:
        return handler(arguments)
    except BSMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


def _say(text: str) -> None:
    """Print; it is no error when the reader of our output has gone, as ``head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit, which would fail too


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from bsm_core import run

    parser = commands.add_parser("run", help="score a table (the same as python -m bsm_core.run)")
    run.add_arguments(parser)
    parser.set_defaults(handler=run.execute)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="turn a table and a config into an artifact")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the config, a JSON file")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="rows with labels: a folder or a file")
    parser.add_argument("--validation", type=Path, metavar="PATH", help="rows to measure on (default: some of --data)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder for the artifact")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto", help="(default auto)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a config key, in JSON or as text; repeatable"
    )
    parser.set_defaults(handler=_train)


def _train(arguments: argparse.Namespace) -> int:
    from bsm_core.memory import starting
    from bsm_core.run import guarded

    def work() -> None:
        with starting():
            from bsm_core.training import train
            from bsm_core.training.config import read_config_file

        config = read_config_file(arguments.config) | dict(map(key_and_value, arguments.set))
        train(
            config,
            arguments.data,
            arguments.output,
            validation=arguments.validation,
            accelerator=arguments.accelerator,
        )

    return guarded(work)


def key_and_value(text: str) -> tuple[str, Any]:
    """A config key and its value, from ``KEY=VALUE``; the value is JSON, or text where it is not."""
    key, found, value = text.partition("=")
    if not (key and found):
        raise UsageError(f"--set {text!r} cannot be used", fix="write KEY=VALUE, for example --set max_epochs=5")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _add_plugins(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("plugins", help="list text steps and model classes, and who provides them")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print JSON")
    forms.add_argument("--errors", action="store_true", help="import everything, and print what cannot be loaded")
    parser.set_defaults(handler=_plugins)
    actions = parser.add_subparsers(title="for authors of plugins", metavar="ACTION")
    new = actions.add_parser("new", help="write a package with a new plugin, tests included")
    new.add_argument("kind", choices=["step", "model"], help="a text step or a model class")
    new.add_argument("name", metavar="NAME", help="of the distribution, for example acme-shout")
    new.add_argument("--output", type=Path, metavar="DIR", help="a new folder for it (default NAME)")
    new.set_defaults(handler=_new_plugin)
    check = actions.add_parser("check", help="check that an installed plugin keeps the contract")
    check.add_argument("name", metavar="NAME", help="of the distribution")
    check.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    check.set_defaults(handler=_check_plugin)


def _plugins(arguments: argparse.Namespace) -> int:
    from bsm_core.listing import errors_text, listing, listing_text
    from bsm_core.registry import default_registry

    registry = default_registry()
    if arguments.errors:
        from bsm_core.model import ModelBase
        from bsm_core.steps import TextStep

        _say(errors_text(registry, {"step": TextStep, "model_class": ModelBase}))
    elif arguments.json:
        _say(json.dumps(listing(registry), indent=2))
    else:
        _say(listing_text(registry))
    return 0


def _new_plugin(arguments: argparse.Namespace) -> int:
    from bsm_core.registry import default_registry
    from bsm_core.scaffold import new_plugin

    files = new_plugin(arguments.kind, arguments.name, arguments.output, default_registry())
    folder = files[0].parent
    _say("\n".join(map(str, files)))
    _say(f"To go on: pip install -e '{folder}[test]'; python -m pytest {folder}")
    return 0


def _check_plugin(arguments: argparse.Namespace) -> int:
    from bsm_core.testing import check_plugin

    with contextlib.redirect_stdout(sys.stderr):  # what plugins print is not the report
        report = check_plugin(arguments.name, on_fail=None)
    _say(json.dumps(report.to_dict(), indent=2) if arguments.json else report.to_text())
    return 0 if report.ok else 1


def _add_inspect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("inspect", help="say what an artifact is and what it lacks")
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="a folder or a model.tar.gz")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import describe

    description = describe(arguments.model_dir)
    if not description.problems:
        _try_to_load(arguments.model_dir, description.problems)
    _say(json.dumps(description.to_dict(), indent=2) if arguments.json else description.to_text())
    return 1 if description.problems else 0


def _try_to_load(model_dir: Path, problems: list[str]) -> None:
    """Only building it all shows whether steps, config and weights fit together; and rows, whether the model works."""
    import pyarrow as pa

    from bsm_core.artifact import Artifact, unpacked
    from bsm_core.artifact.check_rows import read_check_rows
    from bsm_core.predictor import Predictor
    from bsm_core.self_check import check

    try:
        with unpacked(model_dir) as folder:
            predictor, rows = Predictor.load(Artifact.load(folder)), read_check_rows(folder)
        predictor.predict(pa.table({name: pa.nulls(1) for name in predictor.preprocessor.wanted}))
        if rows is not None:
            check(predictor, rows)
    except BSMError as error:
        problems.append(error.one_line())


def _add_pack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("pack", help="make an artifact complete: safe formats, tokenizer, encoder config")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or a model.tar.gz")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a folder, or a name in .tar.gz")
    parser.add_argument("--safe-only", action="store_true", help="leave the pickled twins out")
    checks = parser.add_mutually_exclusive_group()
    checks.add_argument("--data", type=Path, metavar="TABLE", help="store its first rows for the self-check")
    checks.add_argument("--no-self-check", action="store_true", help="keep check rows without scoring them")
    parser.set_defaults(handler=_pack)


def _pack(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import pack

    finish = partial(_finish_packed, data=arguments.data, check_rows=not arguments.no_self_check)
    with writing(arguments.destination):
        packed = pack(arguments.source, arguments.destination, safe_only=arguments.safe_only, before_publishing=finish)
    _say(str(packed))
    return 0


def _finish_packed(folder: Path, data: Path | None, check_rows: bool) -> None:
    """Check the packed artifact, and record what makes it here, where that can be had."""
    from bsm_core.artifact.provenance import PROVENANCE
    from bsm_core.provenance import add_provenance

    if check_rows:
        _check_packed(folder, data)
    try:
        add_provenance(folder)
    except HookFailedError:
        raise
    except BSMError as error:  # the artifact is whole all the same, and may be meant for another machine
        kept = "with the record that it had" if (folder / PROVENANCE).exists() else "without a record of what made it"
        print(f"packed {kept}: {error.one_line()}", file=sys.stderr)


def _check_packed(folder: Path, data: Path | None) -> None:
    """Store check rows from a table; without one, those that the artifact has must hold."""
    from bsm_core.artifact import Artifact
    from bsm_core.artifact.check_rows import read_check_rows, write_check_rows
    from bsm_core.predictor import Predictor
    from bsm_core.self_check import ROWS, check, make
    from bsm_core.tables import TableSource

    if data is not None:
        predictor, source = Predictor.load(Artifact.load(folder)), TableSource.open(data)
        source.require(predictor.preprocessor.wanted)
        window = next(source.windows(list(predictor.preprocessor.wanted), rows=ROWS))
        write_check_rows(folder, make(predictor, window.table))
    elif (rows := read_check_rows(folder)) is not None:
        check(Predictor.load(Artifact.load(folder)), rows)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="pack an artifact with its text encoders as ONNX files beside the rest")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or a model.tar.gz")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a folder, or a name in .tar.gz")
    parser.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import pack
    from bsm_core.export import export

    def finish(folder: Path) -> None:
        export(folder)
        _finish_packed(folder, data=None, check_rows=True)

    with writing(arguments.destination):
        packed = pack(arguments.source, arguments.destination, before_publishing=finish)
    _say(str(packed))
    return 0


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("convert", help="convert a table between CSV, TSV and Parquet")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a file, or a folder of files of one format")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a file; its name gives the format")
    parser.set_defaults(handler=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from bsm_core.tables import convert

    with writing(arguments.destination):
        rows = convert(arguments.source, arguments.destination)
    _say(f"{rows:,} rows: {arguments.destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
