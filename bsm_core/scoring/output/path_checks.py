"""Checks that a run replaces and removes none of its inputs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bsm_core.errors import BSMError, UsageError
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import EMBEDDINGS, PREDICTIONS, Markers, leftovers
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.settings import Settings
from bsm_core.storage.objects import ObjectPath
from bsm_core.tables.data_files import FORMATS, discover
from bsm_core.tables.formats.folders import is_pattern, is_read


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
    written = written_by(output, settings.shard)
    if _is_inside(output, data):  # the next run would read the predictions
        raise UsageError("the output folder is inside the data folder", where=str(output), fix=fix)
    if is_pattern(data) and (read := [path for path in written if is_read(path, data)]):
        what = f"the pattern of the data matches files that the run writes, such as {read[0].name}"
        raise UsageError(what, where=str(output), fix=fix)
    if _is_inside(output, model):
        raise UsageError("the output folder is inside the artifact", where=str(output), fix=fix)
    work = WorkFolder(output, settings.shard)
    work.check_is_plain_folder()
    for path in (data, model):
        if path.resolve().is_relative_to(work.path.resolve()):
            raise UsageError("the run would remove its input with the work folder", where=str(path), fix=fix)
    others = {flag: path for flag, path in _further_files(settings).items() if path is not None}
    for flag, path in others.items():
        check_path_of_file(flag, path, settings)
    check_no_input_is_replaced(written, data, model, others)


def _further_files(settings: Settings) -> dict[str, Path | None]:
    """Return the files that a run writes outside of its output folder, by flag."""
    return {"--row-issues": settings.row_issues, "--report": settings.report}


def check_no_input_is_replaced(output: Sequence[Path], data: Path, model: Path, others: Mapping[str, Path]) -> None:
    """Check that no input is one of the files that a run replaces or removes.

    Args:
        output: The files that a run replaces or removes in its output folder.
        data: File or folder of the data.
        model: The artifact.
        others: Files that the run writes elsewhere, by the flag that names each.

    Raises:
        UsageError: An input is one of them.
    """
    flags = {path: flag for flag, path in others.items()}
    replaced = {identity: path for path in [*output, *flags] if (identity := _identity(path))}
    for path in _inputs(data, model, {type(path) for path in replaced.values()}):
        if (identity := _identity(path)) in replaced:
            written = replaced[identity]
            what = f"the run would replace or remove {written.name}, which is one of its inputs"
            raise UsageError(what, where=str(path), fix=f"choose another {flags.get(written, '--output-dir')}")


def check_path_of_file(flag: str, path: Path, settings: Settings) -> None:
    """Check that a file of a flag is none of the files that the run writes, and that no run reads it as data.

    Raises:
        UsageError: It is one of them, or lies in the data folder, the artifact or the work folder.
    """
    place, fix, what = path.resolve(), f"choose another {flag}", flag.removeprefix("--").replace("-", " ")
    if place in (file.resolve() for file in written_by(settings.output_dir, settings.shard)):
        raise UsageError(f"the {what} would replace a file that the run writes", where=str(path), fix=fix)
    data, model, work = settings.data_dir, settings.model_dir, WorkFolder(settings.output_dir, settings.shard).path
    for folder in (data, model, work):
        inside = is_read(place, data) if folder == data else place.is_relative_to(folder.resolve())
        if not folder.is_file() and inside:
            raise UsageError(f"the {what} cannot be written to this folder", where=str(folder), fix=fix)


def written_by(output: Path, shard: Shard | None) -> list[Path]:
    """Return the files that a run replaces or removes in its output folder."""
    name = shard.name if shard else ""
    tables = [output / f"{PREDICTIONS}{name}.{format}" for format in FORMATS]
    return [*tables, output / f"{EMBEDDINGS}{name}.parquet", *Markers(output, shard).paths, *leftovers(output, shard)]


def is_input(output: Path, data: Path, model: Path, written: Sequence[Path]) -> bool:
    """Return whether an output folder belongs to the inputs of its run."""
    inside = _is_inside(output, data) or _is_inside(output, model)
    return inside or (is_pattern(data) and any(is_read(path, data) for path in written))


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve()) and folder.is_dir()


def _inputs(data: Path, model: Path, kinds: Collection[type[Path]]) -> Iterator[Path]:
    """Yield the files of the data and of the model, if these are of some kinds: on this machine, or objects."""
    if type(data) in kinds:
        with suppress(BSMError):  # the run says what is wrong with the data
            yield from discover(data)[1]
    if type(model) not in kinds:
        return
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
