"""Checking a file of ``torch.save`` before torch reads it: what it inflates to, and the pickles in it."""

from __future__ import annotations

import mmap
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bsm_core.artifact.files import corrupt
from bsm_core.artifact.untrusted.foreign_forms import foreign_members
from bsm_core.artifact.untrusted.opcodes import check_opcodes

_FREE = 64 << 20
"""Bytes that the content of a file may have beyond the file. ``torch.save`` does not compress."""
_MOST_MEMBERS = 20_000
"""One for each tensor: torch takes 200 us for each."""
_LARGEST_DIRECTORY = 16 << 20
"""Bytes of the list of members at the end of a zip file, which ``zipfile`` reads and parses as a whole."""
_LARGEST_PICKLE = 64 << 20
_END, _END_64, _LOCATOR_64 = struct.Struct("<12sL6x"), struct.Struct("<40sQ8x"), struct.Struct("<20x")
"""Records at the end of a zip file, and in them the size of the list of members, in bytes."""
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
    _check_directory(file, size)
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
            reader = _same_in_torch(file, members)
            for member in pickles:
                check_opcodes(reader.get_record(_record(member)))
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _check_directory(file: BinaryIO, size: int) -> None:
    """Check the size of the list of members, as the record at the end of the file has it.

    Only a record without a comment is looked for: :func:`_check_zip` refuses a comment.
    """
    file.seek(max(0, size - _END.size - _END_64.size - _LOCATOR_64.size))
    tail = file.read()
    file.seek(0)
    end, end_64, locator_64 = tail[-_END.size :], tail[: _END_64.size], tail[_END_64.size : -_END.size]
    if not end.startswith(b"PK\5\6"):
        raise ValueError("it is cut off, or has bytes before or after its members")
    is_zip64 = end_64.startswith(b"PK\6\6") and locator_64.startswith(b"PK\6\7")
    length = _END_64.unpack(end_64)[1] if is_zip64 else _END.unpack(end)[1]
    if length > _LARGEST_DIRECTORY:
        raise ValueError(f"the list of its members takes more than {_LARGEST_DIRECTORY >> 20} MiB")


def _same_in_torch(file: BinaryIO, members: list[zipfile.ZipInfo]) -> Any:
    """Return torch's reader of a zip file.

    Raises:
        ValueError: The reader sees other members than ``zipfile``: each takes the table of contents from another place
            of the file, or a name or a size from another field.
    """
    try:
        file.seek(0)  # torch takes the current position for the beginning
        reader = torch._C.PyTorchFileReader(file)
        records = {name: reader.get_record_size(name) for name in reader.get_all_records()}
    except RuntimeError as error:
        raise ValueError("torch finds no whole zip file in it") from error
    if records != {_record(member): member.file_size for member in members}:
        raise ValueError("it is two zip files in one: torch sees other members than a check of the file does")
    return reader


def _record(member: zipfile.ZipInfo) -> str:
    """Return torch's name of a member, which is without the first folder."""
    return member.filename.partition("/")[2]


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
