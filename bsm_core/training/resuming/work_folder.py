"""Hidden folder of a training job: what the job resumes from if it was stopped, until its artifact is in place."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bsm_core.artifact.files import list_files
from bsm_core.artifact.save import copy_file
from bsm_core.errors import CheckpointError, DivergedError, UsageError
from bsm_core.runtime import durable
from bsm_core.storage.objects import ObjectPath
from bsm_core.storage.temporary import temporary_folder
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.prepared import Prepared
from bsm_core.training.resuming.checkpoints import FOLD, LAST

log = logging.getLogger("bsm")

_PUBLISHING = "publishing"
"""Name of the file that says that the output folder may hold a part of the artifact."""
_DIGEST = "job.sha256"


def beside(output: Path, ending: str) -> Path:
    """Return the path next to the output that has the output's name with an ending."""
    return output.parent / f"{output.name}{ending}"


def located(output: Path) -> Path:
    """Return the absolute path of an output, whose last part is a name.

    Raises:
        UsageError: The output is something other than an empty folder or the folder of an artifact that this job was
            stopped from completing; or a link to nothing.
    """
    is_local = not isinstance(output, ObjectPath)
    whole = output.resolve() if is_local and ".." in output.parts else output.absolute()
    if is_local and whole.is_symlink() and not whole.exists():
        what = f"the output is a link to {whole.readlink()}, which does not exist"
        raise UsageError(what, where=str(output), fix="make this folder, or remove the link")
    is_free = not whole.exists() or (whole.is_dir() and not any(whole.iterdir()))
    if not is_free and not (whole.is_dir() and (_folder_of(whole) / _PUBLISHING).exists()):
        what = "the output already exists and is not an empty folder"
        raise UsageError(what, where=str(output), fix="name a new folder, or remove this one")
    return whole


@dataclass
class TrainingFolder:
    """Folder of a running job.

    Attributes:
        path: The folder.
        is_claimed: Whether :func:`claim` has found that the job may resume from what the folder holds.
    """

    path: Path
    is_claimed: bool = False


@contextmanager
def work_folder(output: Path) -> Iterator[TrainingFolder]:
    """Provide the hidden folder of a job. Keep it if the job stops or fails after a checkpoint.

    The folder of a job that diverged is removed: the same job would diverge again, and another one cannot resume from
    its checkpoints. For an output in an object store, it is a temporary folder, which is not kept.

    Args:
        output: Path of :func:`located`.

    Raises:
        SinkError: The folder cannot be made.
    """
    if isinstance(output, ObjectPath):
        with temporary_folder() as folder:
            yield TrainingFolder(folder)
        return
    folder = _folder_of(output)
    work = TrainingFolder(folder)
    with durable.writing(output):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    except BaseException as error:
        if isinstance(error, DivergedError) or not _is_begun(folder):
            shutil.rmtree(folder)
        elif work.is_claimed and not isinstance(error, CheckpointError):
            log.warning("stopped; run the same job again to resume from its last epoch, which is kept in %s", folder)
        raise
    (folder / _PUBLISHING).unlink(missing_ok=True)  # first: without it, no other job takes the output for its own
    shutil.rmtree(folder)


def _folder_of(output: Path) -> Path:
    return output.parent / f".{output.name}.training"


def _is_begun(work: Path) -> bool:
    return any(next(work.rglob(name), None) for name in (LAST, FOLD, _PUBLISHING))


def claim(work: TrainingFolder, job: TrainingJob, prepared: Prepared) -> None:
    """Mark the work folder with a digest of the job and its rows.

    Raises:
        UsageError: The folder holds what another job has begun, or does not say which job it was.
        SinkError: The mark cannot be written.
    """
    digest = hashlib.sha256(json.dumps([str(work.path), job.values], sort_keys=True).encode())
    for batch in filter(None, (prepared.train, prepared.validation)):
        texts = (tensor for text in batch.texts.values() for tensor in vars(text).values())
        for tensor in (batch.features, batch.labels, *texts):
            digest.update(tensor.numpy().tobytes())
    mark, own = work.path / _DIGEST, digest.hexdigest()
    if not _is_begun(work.path):
        with durable.writing(mark):
            durable.write(mark, own)
        work.is_claimed = True
        return
    try:
        found = mark.read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        found = ""
    if len(found) != len(own):
        what = f"the file {_DIGEST} is missing or damaged, which says which job was stopped here"
        raise UsageError(what, where=str(work.path), fix="remove the folder to begin the training anew")
    if found != own:
        raise UsageError(
            "a job with a different config or different rows was stopped here, or its folder was moved",
            where=str(work.path),
            fix="run that job again to finish it, or remove the folder",
        )
    work.is_claimed = True


def publish(artifact: Path, work: Path, output: Path) -> None:
    """Move the artifact to the output folder; an existing folder is filled, because it may be a mount point.

    Raises:
        OSError: The system reports an error.
    """
    durable.write(work / _PUBLISHING, "")
    if output.exists():
        for name, path in list_files(artifact).items():
            copy_file(path, output / name)
            durable.flush(output / name)
        return
    for path in list_files(artifact).values():
        durable.flush(path)
    artifact.replace(output)
    durable.flush(output.parent)
