"""Finding the files of a table, and their format."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NoReturn, get_args

from bsm_core.errors import BSMError, DataError, MixedFormatsError, NoInferenceDataError, why_unreadable
from bsm_core.storage.objects import pinned, place
from bsm_core.tables.formats.first_bytes import CODECS, HEAD_BYTES, is_text, kind_of, misnamed
from bsm_core.tables.formats.folders import is_pattern, require_plain_above, root_of, visible_files

log = logging.getLogger("bsm")

Format = Literal["csv", "tsv", "parquet"]
"""Format of a table that is written."""
SourceFormat = Literal["csv", "tsv", "parquet", "jsonl"]
"""Format of a table that is read."""
FORMATS: tuple[Format, ...] = get_args(Format)
DELIMITERS = {"csv": ",", "tsv": "\t"}
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    **{f".{name}": name for name in FORMATS},
    **dict.fromkeys((".pq", ".parq"), "parquet"),
}
_SOURCE_OF_SUFFIX: dict[str, SourceFormat] = {**_FORMAT_OF_SUFFIX, ".jsonl": "jsonl", ".ndjson": "jsonl"}
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PART = re.compile(r"part-[^.]*|[0-9]{6}_[0-9]+(?:_copy_[0-9]+)?")
"""Name, before the extension of its compression, of a file that Spark, Hadoop or Hive writes without an extension."""
_EXPORT = re.compile(rf"[^.]*(?:[0-9]{{3}}|[0-9]{{4}}_part_[0-9]{{2}}|{_UUID})")
"""Name of such a file of BigQuery or Redshift (a number at the end), of a slice of Redshift, of Athena or Firehose.

Files of other kinds, such as ``NOTES2024``, may have such names too.
"""
_PACKED_PART = re.compile(rf"part-.*|{_PART.pattern}")
"""Name of a part, before the extension of a compression that cannot be read."""

# A data file with one of these compressions is an error: if it were ignored, its rows would be lost.
_UNREADABLE = {
    *(".xz", ".lzma", ".zip", ".7z", ".z", ".rar", ".tar", ".tgz", ".gzip", ".bz", ".bzip2", ".zstd"),
    *(".snappy", ".snz", ".sz", ".lzo", ".lz", ".deflate"),
}

_PACKED_AS, _PARQUETS = "also followed by .gz, .bz2, .zst, .lz4 or .br", ".parquet, .pq and .parq"
_READABLE = f".csv, .tsv, .jsonl, .ndjson (each {_PACKED_AS}), {_PARQUETS}"
_WRITABLE = f".csv, .tsv (both {_PACKED_AS}), {_PARQUETS}"


def codec_of(path: Path) -> str | None:
    """Return Arrow's name for the compression of a text file, or None if the file is not compressed."""
    return CODECS.get(path.suffix.lower())


def detect_format(path: str | Path) -> Format:
    """Return the format of a table to write, from its extension. ``.csv.gz`` is compressed ``csv``.

    Raises:
        DataError: No table with this extension is written.
    """
    path = place(path)
    outer, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    found = _FORMAT_OF_SUFFIX.get(outer) or (_FORMAT_OF_SUFFIX.get(inner) if outer in CODECS else None)
    if found is None or (outer in CODECS and found == "parquet"):
        is_read = outer in _SOURCE_OF_SUFFIX or (outer in CODECS and inner in _SOURCE_OF_SUFFIX)
        what = (
            f"a table cannot be written as {inner if outer in CODECS else ''}{outer}" if is_read else "not a data file"
        )
        raise DataError(what, where=str(path), fix=f"name a file to write: the extensions are {_WRITABLE}")
    return found


def source_format(path: Path) -> SourceFormat:
    """Return the format of a data file, from its extension or, if it has none, its content.

    Raises:
        DataError: It is not a data file, or has a compression that cannot be read.
        OSError: The file cannot be read.
    """
    return _format_of(path) or "csv"


def output_format(format: SourceFormat) -> Format:
    """Return the format of the predictions for data of a format: the same, and CSV for JSON lines."""
    return "csv" if format == "jsonl" else format


def discover(path: Path, delimiter: str | None = None) -> tuple[SourceFormat, tuple[Path, ...]]:
    """Return the files that together are one table, and their format.

    Three groups of files are ignored: empty files; files and folders whose names begin with ``_`` or ``.``, such as
    markers, but not partitions such as ``_hour=2``; and files whose names are not those of data files, which
    :func:`warn_of_passed_over` lists.

    Args:
        path: A data file, or a folder, which is searched with all its sub-folders, or a pattern of files or folders.
        delimiter: The character between two cells, if a setting names it.

    Returns:
        The format, and the files in path order.

    Raises:
        NoInferenceDataError: There is no data file, or all data files are empty.
        MixedFormatsError: There are data files of two formats.
        DataError: A file or folder cannot be read.
    """
    by_format: dict[SourceFormat, list[Path]] = {}
    with _explained(path):
        if not root_of(path).exists() or not (path.exists() or is_pattern(path)):
            raise NoInferenceDataError("no such file or folder", where=str(path), fix="check the path")
        require_plain_above(path)
        files = _data_files(path)
        filled = [file for file in files if file.stat().st_size]
        text = next((format for format in map(_format_of_name, filled) if format in DELIMITERS), None)
        if text is None and delimiter:
            text = "tsv" if delimiter == DELIMITERS["tsv"] else "csv"
        for file in filled:
            str(file).encode()  # Arrow expects file names in UTF-8
            format = _format_of(file)
            if format in DELIMITERS and not _format_of_name(file):
                format = text = text or format  # of all parts, because a cell of text may hold tabs or commas
            if format:
                by_format.setdefault(format, []).append(file)
    if not by_format:
        raise_no_data(path, files)
    if len(by_format) > 1:
        raise MixedFormatsError(
            f"data files of {len(by_format)} formats in one folder",
            where=str(path),
            details=[f"{name}: {_some(found)}" for name, found in by_format.items()],
            fix="leave the files of one format in the folder",
        )
    ((format, found),) = by_format.items()
    return format, tuple(found)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the operating system about files of a folder, and about names of files, into ours."""
    try:
        yield
    except BSMError:
        raise
    except OSError as error:
        reason, fix = why_unreadable(error)
        raise DataError(f"cannot be read: {reason}", where=str(error.filename or path), fix=fix) from error
    except UnicodeEncodeError as error:
        raise DataError("the file's name is not UTF-8", where=ascii(error.object), fix="rename the file") from error


def _data_files(path: Path) -> list[Path]:
    """Return a file, or the data files in a folder or of a pattern, in path order, by their names and their content.

    Text files that only may be exports of other programs are among them where no other file is data, or where they
    begin with the line with which another one begins.
    """
    if path.is_file():
        return [pinned(path)]
    found = visible_files(path)
    exports = {file for file in found if not _is_sure(file) and _is_export(file)}
    if exports:
        first = next((line for line in map(_first_line, filter(_is_sure, found)) if line), None)
        exports = {file for file in exports if first is None or _first_line(file) in (b"PAR1", first)}
    return [file for file in found if file in exports or _is_sure(file)]


def warn_of_passed_over(path: Path, files: Sequence[Path]) -> None:
    """Log a warning with the files in a folder that :func:`discover` ignores because of their names.

    Such files may contain rows. Log also which files are read because of their content.

    Args:
        path: The folder, or a file.
        files: The files that are read.
    """
    if path.is_file():
        return
    read = set(files)
    if others := [f for f in visible_files(path) if f not in read and not _is_sure(f) and _has_content(f)]:
        log.warning("files that are not data files were ignored: %s; the extensions are %s", _some(others), _READABLE)
    if by_content := [file for file in files if not _format_of_name(file)]:
        log.info("files without an extension are read because of their names or content: %s", _some(by_content))


def raise_no_data(path: Path, empty: list[Path]) -> NoReturn:
    """Raise :class:`NoInferenceDataError` for a folder or file.

    Args:
        path: The folder or file.
        empty: Its data files, all of them empty.
    """
    if empty:
        what, details = "no data: every data file is empty", [f"empty: {_some(empty)}"]
        fix = "write data; a table without rows still needs its header"
    else:
        found = visible_files(path)
        what, advice = "no data file in the folder", "put a data file into the folder"
        if is_pattern(path):
            what, advice = "no data file matches the pattern", "check the pattern"
        details, fix = [f"found: {_some(found) or 'nothing'}"], f"{advice}; the extensions are {_READABLE}"
        if not found and (path / "_SUCCESS").exists():
            details = ["found: only _SUCCESS: the job that wrote the folder has finished, and wrote no row"]
        hints = [(file, hint) for file in found[:5] if (hint := misnamed(file))]
        details += [f"{file} seems to be {hint.what}: {hint.fix}" for file, hint in hints]
    raise NoInferenceDataError(what, where=str(path), details=details, fix=fix)


def _format_of(path: Path) -> SourceFormat | None:
    """Return the format of a data file, or None if only its content could tell it and there is none."""
    found = _format_of_name(path)
    if found is None and path.suffix and not (_PART.fullmatch(_stem(path)) or _EXPORT.fullmatch(_stem(path))):
        hint = misnamed(path)
        what = f"not a data file: it seems to be {hint.what}" if hint else "not a data file"
        raise DataError(what, where=str(path), fix=hint.fix if hint else f"the extensions are {_READABLE}")
    return found or _format_of_content(path)


def _is_sure(path: Path) -> bool:
    """Return whether a file is a data file, from its name."""
    return bool(_format_of_name(path) or _PART.fullmatch(_stem(path)))


def _is_export(path: Path) -> bool:
    """Return whether a file without an extension may be a data file, from its name or because it is Parquet."""
    return bool(_EXPORT.fullmatch(_stem(path))) or (
        not path.suffix and path.is_file() and _is_parquet(_head(path, None))
    )


def _first_line(path: Path) -> bytes:
    """Return the first line of CSV or TSV that holds anything, or a sign of another format."""
    if not _has_content(path):
        return b""
    if _format_of_name(path) == "parquet":
        return b"PAR1"
    head = _head(path, codec_of(path)).removeprefix(b"\xef\xbb\xbf").lstrip()
    if _is_parquet(head):
        return b"PAR1"
    return b"{" if head.startswith(b"{") else head.partition(b"\n")[0].rstrip()


def _has_content(path: Path) -> bool:
    with suppress(OSError):  # a link that leads nowhere
        return path.is_file() and path.stat().st_size > 0
    return False


def _stem(path: Path) -> str:
    """Return the name of a file without the extension of its compression."""
    return path.name.removesuffix(path.suffix) if path.suffix.lower() in CODECS else path.name


def _format_of_name(path: Path) -> SourceFormat | None:
    outer, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    if outer in _SOURCE_OF_SUFFIX:
        return _SOURCE_OF_SUFFIX[outer]
    if path.name.startswith("part-") and ".json" in (outer, inner if outer in CODECS else ""):  # Spark's JSON lines
        return "jsonl"
    format = _SOURCE_OF_SUFFIX.get(inner)
    packed = format == "parquet" and outer in {*CODECS, *_UNREADABLE}
    if packed and path.is_file() and _is_parquet(_head(path, None)):  # pandas: "df.parquet.gzip"
        return "parquet"
    if packed or (outer in _UNREADABLE and (format or _PACKED_PART.fullmatch(path.stem))):
        what = f"a {format or 'data'} file packed as {outer} cannot be read"
        raise DataError(what, where=str(path), fix=f"unpack it; the extensions are {_READABLE}")
    return format if outer in CODECS else None


def _is_parquet(head: bytes) -> bool:
    return head.startswith(b"PAR1") and not is_text(head)  # the header of a text may begin like this


def _head(path: Path, codec: str | None) -> bytes:
    """Return the first bytes of a file, after decompression."""
    import pyarrow as pa  # here, because the command line imports this module and rarely needs it

    from bsm_core.tables.lent_streams import arrow_file

    try:
        with pa.input_stream(arrow_file(path), compression=codec) as file:
            return bytes(file.read(HEAD_BYTES))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, BSMError) or (isinstance(error, OSError) and error.errno):
            raise  # otherwise, one of the decompression
        kind = misnamed(path)
        what = f"cannot be read: the file is {kind.what}" if kind else "cannot be read"
        raise DataError(
            what, where=str(path), fix=kind.fix if kind else "the file may be cut off or damaged"
        ) from error


def _format_of_content(path: Path) -> SourceFormat | None:
    """Return the format of a file whose name does not say it, or None if the file has no content."""
    head = _head(path, codec_of(path))
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text and len(head) < HEAD_BYTES:
        return None
    if _is_parquet(head):
        return "parquet"
    if text.startswith(b"{"):
        return "jsonl"
    if kind := kind_of(head):
        raise DataError(f"the file is {kind.what}", where=str(path), fix=kind.fix, settings=kind.settings)
    if not is_text(head):
        raise DataError("the file is no text, and not Parquet", where=str(path), fix=f"the extensions are {_READABLE}")
    line = text.splitlines()[0] if text else b""
    return "tsv" if line.count(b"\t") > line.count(b",") else "csv"


def _some(files: list[Path], limit: int = 5) -> str:
    rest = f" and {len(files) - limit} more" if len(files) > limit else ""
    return ", ".join(str(file) for file in files[:limit]) + rest
