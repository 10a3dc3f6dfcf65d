"""Which files are the table, and of which format."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn, get_args

from bsm_core.errors import DataError, MixedFormatsError, NoInferenceDataError

log = logging.getLogger("bsm")

Format = Literal["csv", "tsv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
DELIMITERS = {"csv": ",", "tsv": "\t"}
_FORMAT_OF_SUFFIX: dict[str, Format] = {f".{name}": name for name in FORMATS}

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
# A data file packed like this must not be passed over as if it were a note beside the data.
_UNREADABLE = {
    *(".xz", ".lzma", ".zip", ".7z", ".z", ".rar", ".tar", ".tgz", ".gzip", ".bz", ".bzip2", ".zstd"),
    *(".snappy", ".snz", ".sz", ".lzo", ".lz", ".deflate"),
}

_READABLE = ".csv, .tsv (also with .gz, .bz2, .zst, .lz4 or .br behind it) and .parquet"


def codec_of(path: Path) -> str | None:
    """Arrow's name for the compression of a text file; None where it is not compressed."""
    return CODECS.get(path.suffix.lower())


def detect_format(path: str | Path) -> Format:
    """The format of a data file, told by its extension; compressed text by its inner one (``.csv.gz``).

    Raises:
        DataError: The extension is not that of a data file, or of a compression that cannot be read.
    """
    found = _format_of(Path(path))
    if found is None:
        raise DataError("not a data file", where=str(path), fix=f"the extensions are {_READABLE}")
    return found


def discover(path: Path) -> tuple[Path, ...]:
    """The files that together are one table.

    Files and folders whose names begin with ``_`` or ``.`` are markers and passed over, and so are empty files. Files
    with names of other kinds are passed over too; :func:`warn_of_passed_over` lists them.

    Args:
        path: A data file, or a folder that is searched with all its sub-folders.

    Returns:
        Files of one format, in path order.

    Raises:
        NoInferenceDataError: There is no data file, or all of them are empty.
        MixedFormatsError: There are data files of two formats.
        DataError: A file or folder cannot be read.
    """
    if not path.exists():
        raise NoInferenceDataError("no such file or folder", where=str(path), fix="check the path of the data folder")
    try:
        files = [path] if path.is_file() else [f for f in sorted(_walk(path)) if _format_of(f)]
        by_format: dict[Format, list[Path]] = {}
        for file in files:
            str(file).encode()  # Arrow's file names are UTF-8
            if file.stat().st_size:
                by_format.setdefault(detect_format(file), []).append(file)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename or path)) from error
    except UnicodeEncodeError as error:
        raise DataError("the file's name is not UTF-8", where=ascii(error.object), fix="rename the file") from error
    if not by_format:
        raise_no_data(path, files)
    if len(by_format) > 1:
        raise MixedFormatsError(
            f"data files of {len(by_format)} formats in one folder",
            where=str(path),
            details=[f"{name}: {_some(found)}" for name, found in by_format.items()],
            fix="leave the files of one format in the folder",
        )
    (found,) = by_format.values()
    return tuple(found)


def warn_of_passed_over(path: Path) -> None:
    """Log which files of a folder :func:`discover` passes over though nothing marks them: there may be rows in one."""
    if path.is_file():
        return
    if files := [f for f in sorted(_walk(path)) if not _format_of(f) and f.is_file() and f.stat().st_size]:
        log.warning("passed over: %s; the extensions read are %s", _some(files), _READABLE)


def raise_no_data(path: Path, empty: list[Path]) -> NoReturn:
    """Say that there is no table in ``path``: no data file at all, or only ``empty`` ones."""
    if empty:
        what, details = "no data: every data file is empty", [f"empty: {_some(empty)}"]
        fix = "write data; a table without rows still needs its header"
    else:
        what, details = "no data file in the folder", [f"found: {_some(sorted(_walk(path))) or 'nothing'}"]
        fix = f"put data there; the extensions read are {_READABLE}"
    raise NoInferenceDataError(what, where=str(path), details=details, fix=fix)


def _format_of(path: Path) -> Format | None:
    outer, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    if outer in _FORMAT_OF_SUFFIX:
        return _FORMAT_OF_SUFFIX[outer]
    format = _FORMAT_OF_SUFFIX.get(inner)
    if (format and outer in _UNREADABLE) or (format == "parquet" and outer in CODECS):
        raise DataError(
            f"a {format} file packed as {outer} cannot be read", where=str(path), fix=f"unpack it; read are {_READABLE}"
        )
    return format if outer in CODECS else None


def _walk(folder: Path) -> Iterator[Path]:
    """All visible files below a folder, through links too, no folder twice."""
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if _visible(name))
        yield from (Path(here, name) for name in names if _visible(name))


def _visible(name: str) -> bool:
    return not name.startswith(("_", "."))


def _raise(error: OSError) -> None:
    # os.walk would pass a folder that cannot be listed, and its rows would be lost in silence.
    raise error


def _some(files: list[Path], limit: int = 5) -> str:
    rest = f" and {len(files) - limit} more" if len(files) > limit else ""
    return ", ".join(str(file) for file in files[:limit]) + rest
