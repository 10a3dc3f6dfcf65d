"""Checking a file of ``torch.save`` before torch reads it: what it inflates to, and the pickles in it."""

from __future__ import annotations

import mmap
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from bsm_core.artifact.files import corrupt
from bsm_core.artifact.untrusted.foreign_forms import foreign_members
from bsm_core.artifact.untrusted.opcodes import check_opcodes

_FREE = 64 << 20
"""Bytes that the content of a file may have beyond the file. ``torch.save`` does not compress."""
_MOST_MEMBERS = 100_000
_LARGEST_PICKLE = 64 << 20
_LEGACY_PICKLES = 5
"""Pickles at the beginning of a file of ``torch.save`` before version 1.6: the third or fourth is the value."""


def check_torch_file(file: BinaryIO) -> tuple[int, bool]:
    """Check that a file of ``torch.save`` can be read in memory of about its size, and in little time.

    Returns:
        The size of the file, in bytes, and whether it is a zip file.

    Raises:
        CorruptArtifactError: The file holds a program, such as TorchScript.
        ValueError: The file is damaged, or exceeds a limit.
        OSError: The file cannot be read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(4) == b"PK\3\4":
        _check_zip(file, size)
        return size, True
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        for _ in range(_LEGACY_PICKLES):
            at = check_opcodes(data, at)
    return size, False


def _check_zip(file: BinaryIO, size: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            # Two readers of one file must see the same members: no bytes before the first member or after the last.
            if archive.comment or min((member.header_offset for member in members), default=1):
                raise ValueError("it has bytes before or after its members")
            inflated = sum(member.file_size for member in members)
            if inflated > size + _FREE:
                raise ValueError(f"it inflates to {inflated:,} bytes, from {size:,}; torch.save does not compress")
            if len(members) > _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")
            if foreign := foreign_members(member.filename for member in members):
                raise corrupt(Path(file.name).name, foreign[0], foreign[1])
            # torch finds a member by its name without regard to case.
            names = [member.filename.casefold() for member in members]
            if len(set(names)) < len(names):
                raise ValueError("it has two members of one name")
            pickles = [member for name, member in zip(names, members, strict=True) if name.endswith(".pkl")]
            if sum(member.file_size for member in pickles) > _LARGEST_PICKLE:
                raise ValueError(f"it has more than {_LARGEST_PICKLE >> 20} MiB beside the tensors")
            for member in pickles:
                check_opcodes(archive.read(member))
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def is_whole_object(path: Path) -> bool:
    """Return whether a file that :func:`check_torch_file` has passed holds one object of a class, such as a model.

    Only files of ``torch.save`` since version 1.6 are looked at.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        content = archive.read(name) if name else b""
    first = next(
        ((code.name, argument) for code, argument, _ in pickletools.genops(content) if code.name != "PROTO"), None
    )
    return first is not None and first[0] == "GLOBAL" and first[1] != "collections OrderedDict"
