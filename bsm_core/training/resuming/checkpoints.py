"""Checkpoints of a training job: written completely or not at all, and read with errors that say what to do."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from bsm_core.artifact.torch_writing import write_torch
from bsm_core.errors import BSMError, CheckpointError
from bsm_core.runtime import durable

LAST, BEST = "last.ckpt", "best.ckpt"
"""Names of the checkpoints of the last epoch and of the best one."""
FOLD = "fold.pt"
"""Name of the file with the scores of a fold that is finished."""
_CHECKPOINT = ("epoch", "global_step", "state_dict")


class WholeCheckpoints(TorchCheckpointIO):
    """Plugin of Lightning's Trainer that replaces a checkpoint in one step.

    Lightning writes to the folder for temporary files. Where this is another disk, it then copies the file, and a
    process that is killed leaves a part of the checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            SinkError: The system reports an error; the earlier checkpoint is still there.
        """
        write_whole(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Return a checkpoint, on the CPU. See :func:`read_checkpoint`."""
        return read_checkpoint(Path(path))


def write_whole(value: Any, path: Path) -> None:
    """Write a file of ``torch.save``, completely or not at all.

    Raises:
        SinkError: The system reports an error; an earlier file is still there.
    """
    temporary = durable.temporary_of(path)
    with durable.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_torch(value, temporary)
            durable.replace(temporary, path)
        except OSError:
            with suppress(OSError):  # where the disk is full, the beginning of the file must not stay
                temporary.unlink()
            raise


def read_checkpoint(path: Path, keys: Collection[str] = _CHECKPOINT, *, lazily: bool = False) -> dict[str, Any]:
    """Return what a file of :func:`write_whole` holds, on the CPU.

    Args:
        path: The file.
        keys: Keys that it must have.
        lazily: Whether tensors are read when they are used.

    Raises:
        CheckpointError: The file is missing, damaged or another one.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
        if not (isinstance(found, dict) and found.keys() >= {*keys}):
            raise ValueError("it is a file of something else")
    except (BSMError, MemoryError):
        raise
    except Exception as error:
        # Damaged bytes raise anything, some of it with many lines about pickles.
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        fix = f"remove {path.with_name(LAST)} to begin this training anew, and run the same command again"
        raise CheckpointError(f"the checkpoint cannot be read: {reason}", where=str(path), fix=fix) from error
    return found
