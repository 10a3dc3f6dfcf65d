"""A scoring job, from its settings to its markers.

This module imports nothing slow: the output folder is locked, and its old markers are gone, before torch is imported.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.errors import (
    BSMError,
    ConfigError,
    EngineError,
    Interrupted,
    NothingToResumeError,
    SinkError,
    StorageError,
    TooManyBadRowsError,
    UsageError,
)
from bsm_core.runtime.durable import writing
from bsm_core.runtime.memory import explaining_memory, require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once, cause_of, last_words
from bsm_core.scoring.engines.world import Leader, World
from bsm_core.scoring.output.lock import Lock, holding
from bsm_core.scoring.output.manifest import Attempt, WorkFolder
from bsm_core.scoring.output.markers import SUCCESS, Markers, named
from bsm_core.scoring.output.path_checks import check_no_input_is_replaced, check_paths, is_input, written_by
from bsm_core.scoring.output.shard import Shard, of_container, parse
from bsm_core.scoring.settings import Settings, sources
from bsm_core.storage.objects import place

if TYPE_CHECKING:
    from bsm_core.scoring.engines.finish import RunResult

log = logging.getLogger("bsm")

_OF_RAY = ("ray_address", "num_actors")
_GO_ON = "a run goes on; `bsm clean` removes them"


def run(
    flags: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, tuple[Any, str]] | None = None
) -> RunResult:
    """Score a table with an artifact, from file to file.

    Args:
        flags: Settings by name; None means not set.
        env: Environment variables.
        file: See :meth:`bsm_core.scoring.settings.Settings.resolve`.

    Raises:
        UsageError: A setting has an invalid value, or the run would replace one of its own inputs.
        StorageError: An object store does not answer or refuses, or a URL may hold a secret.
        OutputInUseError: Another run writes into the output folder. Nothing was touched.
        NothingToResumeError: ``--resume require`` finds no earlier run to continue. Nothing was touched.
        SinkError: The output cannot be written. No marker was written if the folder was removed or another run took it.
        BSMError: The run failed; the output folder holds ``_FAILURE`` and no predictions of this run.
    """
    world = World.of(env)
    given = both(flags, file)
    try:
        settings = settings_of(flags, env, file, world)
    except (UsageError, ConfigError, StorageError) as error:
        refuse(given, env, error.one_line())
        raise
    if world and world.rank:
        return _follow(settings, world)
    with Leader(world) if world else nullcontext() as leader:
        try:
            check_paths(settings)
        except (UsageError, StorageError) as error:
            refuse(given, env, error.one_line())
            raise
        work = WorkFolder(settings.output_dir, settings.shard)
        if settings.resume == "require" and not work.path.exists():
            raise nothing_to_resume(work)
        with work.held() as lock:
            return _run(settings, work, lock, leader)


def both(flags: Mapping[str, Any], file: Mapping[str, tuple[Any, str]] | None) -> dict[str, Any]:
    """Return the flags that are set, and the values of a file that no flag replaces; see :func:`run`."""
    of_file = {name: value for name, (value, _) in (file or {}).items()}
    return of_file | {name: value for name, value in flags.items() if value is not None}


def settings_of(
    flags: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, tuple[Any, str]] | None, world: World | None
) -> Settings:
    """Return the settings of a run, checked as far as they can be before the artifact is opened; see :func:`run`."""
    settings = Settings.resolve(flags, env, file)
    _check_engine(settings, both(flags, file), world)
    return with_shard(settings, world)


def _check_engine(settings: Settings, flags: Mapping[str, Any], world: World | None) -> None:
    """Check that the engine can be used here, and that no flag of another engine was given.

    The variable ``RAY_ADDRESS`` alone is no mistake: it is set on all machines of a cluster.
    """
    if settings.engine == "ray":
        if world:
            what = f"--engine ray in one of the {world.size} processes that {world.launcher} has started"
            raise UsageError(what, fix="start the command once, without them: Ray starts its own processes")
        return
    if given := " and ".join(sources()[name].flag for name in _OF_RAY if flags.get(name) is not None):
        raise UsageError(f"{given} without --engine ray", fix=f"give --engine ray too, or leave {given} out")


def nothing_to_resume(work: WorkFolder) -> NothingToResumeError:
    """Return the error of a run that has no work folder to continue."""
    succeeded = (work.output / named(SUCCESS, work.shard)).exists()
    why = "the run in this folder has succeeded" if succeeded else "no run has begun here"
    what, fix = f"--resume require: there is nothing to resume: {why}", "leave --resume out to begin anew"
    return NothingToResumeError(what, where=str(work.output), fix=fix)


def with_shard(settings: Settings, world: World | None) -> Settings:
    """Return the settings with the shard of this process. Row issues and report of a shard are files of its own.

    Raises:
        ConfigError: The container's configuration cannot be used.
    """
    shard = _shard_of(settings.shard, settings.data_dir, world)
    given = {"row_issues": settings.row_issues, "report": settings.report}
    own = {name: path and shard and shard.own(path) for name, path in given.items()}
    return settings.model_copy(update={"shard": shard, **{name: own[name] or path for name, path in given.items()}})


def _shard_of(given: Shard | None, data: Path, world: World | None) -> Shard | None:
    """Return the shard of this process: the given one, or that of the container.

    The processes of a world score one shard together. A world on several hosts has no use for those of containers.
    """
    shard = given or of_container(data)
    if not given and shard and world and world.several_hosts:
        if shard.divided:
            what = f"{world.launcher} has started processes on several hosts, each of which has files of its own"
            raise ConfigError(what, fix="give all hosts all files, or start processes on each host by itself")
        return None
    return shard


def _follow(settings: Settings, world: World) -> RunResult:
    """Score windows for the first process of a world, which holds the output folder."""
    with explaining_memory():
        require_memory_for_libraries()
        with _importing():
            from bsm_core.scoring.engines import ranks
        return ranks.follow(settings, world)


@contextmanager
def _importing() -> Iterator[None]:
    """Import libraries inside the block. The garbage collector of a process that has them already is left alone."""
    with at_once(), nullcontext() if "torch" in sys.modules else starting():
        yield


def _run(settings: Settings, work: WorkFolder, lock: Lock, leader: Leader | None) -> RunResult:
    markers = Markers(settings.output_dir, settings.shard)
    earlier = _attempts(work)

    def fail(error: BaseException) -> None:
        if lock.is_lost():  # a marker would speak for another run
            return
        reason, kept = _reason_of(error), _what_is_kept(work, earlier, error)
        markers.fail(f"{reason} ({kept})" if kept else reason)
        if kept:
            log.info("%s", kept)

    try:
        with explaining_memory(), last_words(fail):
            if settings.resume != "require":
                with writing(settings.output_dir):
                    markers.clear()
            require_memory_for_libraries()
            with _importing():
                from bsm_core.scoring import attempt
            committed = attempt.run(settings, lock, leader)
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


def _reason_of(error: BaseException) -> str:
    if isinstance(error, Interrupted) and isinstance(error.__cause__, BSMError):
        error = error.__cause__  # of another process: the program that started them has then ended this one
    return error.one_line() if isinstance(error, BSMError) else f"{type(error).__name__}: {error}"


def _attempts(work: WorkFolder) -> list[Attempt]:
    with suppress(OSError):  # the run itself says that the folder cannot be read
        return work.attempts()
    return []


def _what_is_kept(work: WorkFolder, earlier: Sequence[Attempt], error: BaseException) -> str:
    """Return a sentence about the rows that are done; remove the work folder if there are none.

    Args:
        work: The work folder.
        earlier: Attempts that had begun before this one.
        error: The error that ended this one.
    """
    with suppress(OSError):  # the folder is gone, or cannot be read: the error itself says more
        if rows := work.rows_done():
            too_many = isinstance(error, TooManyBadRowsError)
            if not too_many and work.attempts() == earlier:  # this attempt did not begin: it may have other settings
                return f"{rows:,} rows of an earlier run are done: with its files and settings, {_GO_ON}"
            limit = " but a higher --max-bad-rows" if too_many else ""
            return f"{rows:,} rows are done: with the same files and settings{limit}, {_GO_ON}"
        work.remove()
    return ""


def refuse(flags: Mapping[str, Any], env: Mapping[str, str], reason: str) -> None:
    """Mark the output folder of a run that cannot begin because of wrong usage.

    Not a folder that is not there, in which another run writes, or that belongs to the data or the artifact. Of several
    processes that another program has started, the first one alone marks it.

    Args:
        flags: Settings by name, of which those of folders and the shard matter; None or missing: the default.
        env: Environment variables.
        reason: Text for the marker.
    """
    world = World.of(env)
    output, data, model = (_place_of(flags, name) for name in ("output_dir", "data_dir", "model_dir"))
    shard = None
    with suppress(BSMError, OSError, ValueError):  # the shard itself may be what is wrong
        shard = _shard_of(parse(flags.get("shard") or env.get("SHARD") or None), data, world)
    with suppress(BSMError, OSError, ValueError):  # nothing can be said in that folder
        written = written_by(output, shard)
        if output.is_dir() and not (world and world.rank) and not is_input(output, data, model, written):
            work = WorkFolder(output, shard)
            work.check_is_plain_folder()
            check_no_input_is_replaced(written, data, model, {})
            with work.held():
                Markers(output, shard).fail(reason)


def _place_of(flags: Mapping[str, Any], name: str) -> Path:
    """Return the path that a flag names; one that holds nothing if it cannot be used."""
    given = flags.get(name)
    given = Settings.model_fields[name].default if given is None else given
    if isinstance(given, str | Path) and given != "":
        with suppress(BSMError):
            return place(given)
    return Path(os.devnull)


def clean(output: Path) -> int | None:
    """Remove the work folders of runs that did not end well, and from ``_FAILURE`` that the run can go on.

    Args:
        output: The output folder.

    Returns:
        The number of rows whose predictions were removed with it; None if there is no work folder.

    Raises:
        OutputInUseError: A run writes into the folder.
        UsageError: There is no such folder, or it is a file.
        SinkError: Something cannot be read or removed.
    """
    if not output.is_dir():
        what = "this is a file, not a folder" if output.exists() else "there is no such folder"
        raise UsageError(what, where=str(output), fix="give the output folder of a run")
    folders = WorkFolder.all_of(output)
    removed: list[int] = []
    with ExitStack() as stack:
        for work in folders:  # of all, before something is removed
            work.check_is_plain_folder()
        if folders:
            stack.enter_context(WorkFolder(output).held())
        for work in folders:
            if work.shard:
                stack.enter_context(holding(work.lock))  # to remove it afterwards
        with writing(output):
            for work in folders:
                removed.append(work.rows_done())
                work.remove()
                Markers(output, work.shard).retract(_GO_ON)
    return sum(removed) if removed else None
