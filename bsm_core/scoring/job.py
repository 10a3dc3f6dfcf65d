"""A scoring job, from its settings to its markers.

This module imports nothing slow: the output folder is locked, and its old markers are gone, before torch is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bsm_core.errors import BSMError, EngineError, NothingToResumeError, SinkError, UsageError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.runtime.durable import writing
from bsm_core.runtime.memory import explaining_memory, require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once, cause_of, last_words
from bsm_core.scoring.engines.world import World
from bsm_core.scoring.output.lock import Lock, holding
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import PREDICTIONS, SUCCESS, Markers, named
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.settings import Settings
from bsm_core.storage.objects import ObjectPath, place
from bsm_core.tables.data_files import FORMATS, discover

log = logging.getLogger("bsm")

_GO_ON = "rows are done: with the same files and settings, a run goes on; `bsm clean` removes them"


def run(flags: Mapping[str, Any], env: Mapping[str, str]) -> Committed:
    """Score a table with an artifact, from file to file.

    Args:
        flags: Settings by name; None means not set.
        env: Environment variables.

    Returns:
        The prediction file, its number of rows, and counts of what was unusual in the data.

    Raises:
        UsageError: A setting has an invalid value, or the run would replace one of its own inputs.
        OutputInUseError: Another run writes into the output folder. Nothing was touched.
        NothingToResumeError: ``--resume require`` finds no earlier run to continue. Nothing was touched.
        SinkError: The output cannot be written. No marker was written if the folder was removed or another run took it.
        BSMError: The run failed; the output folder holds ``_FAILURE`` and no predictions of this run.
    """
    world = World.of(env)
    if world and world.rank and flags.get("engine") != "ray":
        return _follow(Settings.resolve(flags, env), world)
    try:
        settings = Settings.resolve(flags, env).with_shard()
        check_paths(settings)
    except UsageError as error:
        refuse(flags, error.one_line())
        raise
    work = WorkFolder(settings.output_dir, settings.shard)
    if settings.resume == "require" and not work.path.exists():
        why = (
            "the run in this folder has succeeded"
            if (work.output / named(SUCCESS, settings.shard)).exists()
            else "no run has begun here"
        )
        what, fix = f"--resume require: there is nothing to resume: {why}", "leave --resume out to begin anew"
        raise NothingToResumeError(what, where=str(work.output), fix=fix)
    with holding(work.lock) as lock:
        return _run(settings, work, lock)


def _follow(settings: Settings, world: World) -> Committed:
    """Score windows for the first process of a world, which holds the output folder."""
    with explaining_memory():
        require_memory_for_libraries()
        with at_once(), starting():
            from bsm_core.scoring.engines import ranks
        return ranks.follow(settings.model_dir, world)


def _run(settings: Settings, work: WorkFolder, lock: Lock) -> Committed:
    markers = Markers(settings.output_dir, settings.shard)

    def fail(error: BaseException) -> None:
        if lock.is_lost():  # a marker would speak for another run
            return
        reason = error.one_line() if isinstance(error, BSMError) else f"{type(error).__name__}: {error}"
        kept = _what_is_kept(work)
        markers.fail(f"{reason} ({kept})" if kept else reason)
        if kept:
            log.info("%s", kept)

    try:
        with explaining_memory(), last_words(fail):
            if settings.resume != "require":
                with writing(settings.output_dir):
                    markers.clear()
            require_memory_for_libraries()
            with at_once(), starting():
                from bsm_core.scoring import attempt
            committed = attempt.run(settings, lock)
    except NothingToResumeError:
        raise
    except BaseException as error:
        if isinstance(error, SinkError | EngineError):
            lock.require()  # a folder that was taken away explains them
        fail(cause_of(error))
        raise
    try:
        if not lock.is_lost():
            work.remove()
    except OSError as error:  # the predictions are there, and the next run removes it
        log.warning("%s could not be removed: %s", work.path, error.strerror or error)
    return committed


def _what_is_kept(work: WorkFolder) -> str:
    """Return a sentence about the rows that are done; remove the work folder if there are none."""
    with suppress(OSError):  # the folder is gone, or cannot be read: the error itself says more
        if rows := work.rows_done():
            return f"{rows:,} {_GO_ON}"
        work.remove()
    return ""


def refuse(places: Mapping[str, Any], reason: str) -> None:
    """Mark the output folder of a run that cannot begin because of wrong usage.

    Not a folder that is not there, in which another run writes, or that belongs to the data or the artifact.

    Args:
        places: Values of ``output_dir``, ``data_dir`` and ``model_dir``; None or missing: the default.
        reason: Text for ``_FAILURE``.
    """
    output, data, model = (
        place(places.get(name) or Settings.model_fields[name].default)
        for name in ("output_dir", "data_dir", "model_dir")
    )
    with suppress(BSMError, OSError, ValueError):  # nothing can be said in that folder
        if output.is_dir() and not any(_is_inside(output, folder) for folder in (data, model)):
            WorkFolder(output).check_is_plain_folder()
            check_no_input_is_replaced(_written(output, None), data, model, [])
            with holding(WorkFolder(output).lock):
                Markers(output).fail(reason)


def check_paths(settings: Settings) -> None:
    """Check that the run will replace or remove none of its inputs. Files are compared by identity, not by name.

    Raises:
        UsageError: A file of the data or of the artifact would be replaced. Nothing was touched.
    """
    data, output, model = settings.data_dir, settings.output_dir, settings.model_dir
    fix = "choose another --output-dir"
    try:
        str(output).encode()
    except UnicodeEncodeError as error:
        raise UsageError("the output folder's name is not UTF-8", where=ascii(error.object), fix=fix) from error
    if _is_inside(output, data):  # the next run would read the predictions
        raise UsageError("the output folder is inside the data folder", where=str(output), fix=fix)
    if _is_inside(output, model):
        raise UsageError("the output folder is inside the artifact", where=str(output), fix=fix)
    work = WorkFolder(output, settings.shard)
    work.check_is_plain_folder()
    for path in (data, model):
        if path.resolve().is_relative_to(work.path.resolve()):
            raise UsageError("the run would remove its input with the work folder", where=str(path), fix=fix)
    if settings.row_issues is not None:
        check_row_issues_path(settings.row_issues, settings)
    written = _written(output, settings.shard)
    check_no_input_is_replaced(written, data, model, [settings.row_issues] if settings.row_issues else [])


def check_no_input_is_replaced(output: Sequence[Path], data: Path, model: Path, others: Sequence[Path]) -> None:
    """Check that no input is one of the files that a run replaces or removes.

    Args:
        output: The files that a run replaces or removes in its output folder.
        data: File or folder of the data.
        model: The artifact.
        others: Files that the run writes elsewhere.

    Raises:
        UsageError: An input is one of them.
    """
    replaced = {identity: path for path in [*output, *others] if (identity := _identity(path))}
    for path in _inputs(data, model) if replaced else ():
        if (identity := _identity(path)) in replaced:
            written = replaced[identity]
            what = f"the run would replace or remove {written.name}, which is one of its inputs"
            flag = "--row-issues" if written in others else "--output-dir"
            raise UsageError(what, where=str(path), fix=f"choose another {flag}")


def check_row_issues_path(row_issues: Path, settings: Settings) -> None:
    """Check that the row-issues file is none of the files that the run writes, and that no run reads it as data.

    Raises:
        UsageError: It is one of them, or lies in the data folder, the artifact or the work folder.
    """
    place, fix = row_issues.resolve(), "choose another --row-issues"
    if place in (file.resolve() for file in _written(settings.output_dir, settings.shard)):
        raise UsageError("the row issues would replace a file that the run writes", where=str(row_issues), fix=fix)
    for folder in (settings.data_dir, settings.model_dir, WorkFolder(settings.output_dir, settings.shard).path):
        if not folder.is_file() and place.is_relative_to(folder.resolve()):
            raise UsageError("the row issues cannot be written to this folder", where=str(folder), fix=fix)


def _written(output: Path, shard: Shard | None) -> list[Path]:
    """Return the files that a run replaces or removes in its output folder."""
    tables = [output / f"{PREDICTIONS}{shard.name if shard else ''}.{format}" for format in FORMATS]
    return [*tables, *Markers(output, shard).paths, output / SUCCESS]


def _is_inside(path: Path, folder: Path) -> bool:
    return folder.is_dir() and path.resolve().is_relative_to(folder.resolve())


def _inputs(data: Path, model: Path) -> Iterator[Path]:
    with suppress(BSMError):  # the run says what is wrong with the data
        yield from discover(data)[1]
    if isinstance(model, ObjectPath):
        yield from model.objects()
    else:
        for folder, _, names in os.walk(model):
            yield from (Path(folder, name) for name in names)
    yield model


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def clean(output: Path) -> int | None:
    """Remove the work folders of runs that did not end well, and from ``_FAILURE`` that the run can go on.

    Args:
        output: The output folder.

    Returns:
        The number of rows whose predictions were removed with it; None if there is no work folder.

    Raises:
        OutputInUseError: A run writes into the folder.
        UsageError: There is no such folder.
        SinkError: Something cannot be read or removed.
    """
    if not output.is_dir():
        raise UsageError("there is no such folder", where=str(output), fix="give the output folder of a run")
    removed: list[int] = []
    for work in WorkFolder.all_of(output):
        work.check_is_plain_folder()
        with holding(work.lock), writing(output):
            removed.append(work.rows_done())
            work.remove()
            Markers(output, work.shard).retract(_GO_ON)
    return sum(removed) if removed else None
