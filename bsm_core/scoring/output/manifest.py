"""The work folder's records: which parts are done, and which attempts made them.

The work folder ``.bsm`` lies in the output folder until the run has succeeded. ``manifest.jsonl`` has one line for each
finished part; the line is written after the part, so a part without a line does not exist. This module imports nothing
slow.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bsm_core.errors import UsageError
from bsm_core.runtime import durable
from bsm_core.scoring.output.lock import Lock, holding, require_free
from bsm_core.scoring.output.shard import Shard

WORK = ".bsm"
_OF_SHARD = re.compile(re.escape(WORK) + r"(-[0-9]{5})?")
_PLAN, _MANIFEST, _ATTEMPTS, _PARTS, _LOCK = "plan.json", "manifest.jsonl", "attempts.jsonl", "parts", "lock"


@dataclass(frozen=True)
class PartRecord:
    """Line of the manifest: one finished part.

    Attributes:
        window: Index of the part's window.
        rows: Number of rows.
        last: Whether no window follows.
        end: Where the next window begins, as ``[file, offset]``; None if it is unknown.
        bytes: Size of the part's file.
        sha256: SHA-256 of the file, in hexadecimal.
        counts: Counts of the window, by name.
        attempt: Number of the attempt that computed the part, from 1.
        files: Number of rows from each file, as pairs of the number of the file and that of the rows.
    """

    window: int
    rows: int
    last: bool
    end: tuple[int, int] | None
    bytes: int
    sha256: str
    counts: Mapping[str, float]
    attempt: int
    files: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Attempt:
    """Line of ``attempts.jsonl``: one start of a run.

    Attributes:
        attempt: Number of the attempt, from 1.
        host, process: Host and process that ran it.
        began: Time at which the attempt started, in ISO 8601.
        device: Devices that it used.
        encoders: Backends of its text encoders; None without text encoders.
    """

    attempt: int
    host: str
    process: int
    began: str
    device: str
    encoders: Mapping[str, Any] | None


L = TypeVar("L", PartRecord, Attempt)


@dataclass(frozen=True)
class WorkFolder:
    """The work folder of an output folder. It holds no open file, so each process of a run can have its own.

    Args:
        output: The output folder.
        shard: Share of this host; None if the job has no others.
    """

    output: Path
    shard: Shard | None = None

    @classmethod
    def all_of(cls, output: Path) -> list[WorkFolder]:
        """Return the work folders in an output folder, those of all hosts; none in one that cannot be listed."""
        found = list[Path]()
        with suppress(PermissionError):
            found = [path for path in sorted(output.iterdir()) if _OF_SHARD.fullmatch(path.name)]
        shards = [int(path.name.partition("-")[2]) if path.name != WORK else None for path in found]
        return [cls(output, None if index is None else Shard(index, index + 1)) for index in shards]

    @property
    def path(self) -> Path:
        """The work folder itself."""
        return self.output / f"{WORK}{self.shard.mark if self.shard else ''}"

    @property
    def lock(self) -> Path:
        """The file that only one run at a time holds."""
        return self.path / _LOCK

    @contextmanager
    def held(self) -> Iterator[Lock]:
        """Hold the lock inside the block, while nothing else that conflicts writes into the output folder.

        Shards of jobs with the same number of hosts can be scored at the same time. All else excludes each other: a job
        that is done removes what jobs with another number of hosts, or without shards, have left. If two runs that
        exclude each other begin at the same moment, both may end.

        Returns:
            The lock.

        Raises:
            OutputInUseError: Another run writes into the output folder.
            SinkError: The lock file cannot be written.
        """
        hosts = self.shard.hosts if self.shard else 0
        with holding(self.lock, hosts) as lock:
            with durable.writing(self.output):
                others = {work.lock for work in (WorkFolder(self.output), *self.all_of(self.output))} - {self.lock}
                for _ in durable.in_parallel(partial(require_free, hosts=hosts), others):
                    pass
            yield lock

    def part(self, window: int) -> Path:
        """Return the file of a window's part."""
        return self.path / _PARTS / f"part-{window:08d}.arrow"

    def check_is_plain_folder(self) -> None:
        """Check that the work folder is a folder of the output folder: a run removes what is in it.

        Raises:
            UsageError: It is a link, or no folder.
        """
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            what = "the work folder is a link or a file, and a run would remove what is in it"
            raise UsageError(
                what, where=str(self.path), fix="remove the link or file", settings=[{"output_dir": "ANOTHER"}]
            )

    def plan(self) -> dict[str, Any] | None:
        """Return the plan of the run whose parts are here; None if there is none, or it cannot be read."""
        try:
            plan = json.loads((self.path / _PLAN).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return plan if isinstance(plan, dict) else None

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Remove the parts of an earlier run, and store a plan.

        Raises:
            OSError: The folder cannot be written.
        """
        (self.path / _PLAN).unlink(missing_ok=True)  # first: without it, nothing else is believed
        durable.remove_tree(self.path / _PARTS)
        (self.path / _PARTS).mkdir()
        for name in (_MANIFEST, _ATTEMPTS):  # empty, and on the disk: lines are only appended later
            durable.write_lines(self.path / name, "")
        durable.write(self.path / _PLAN, json.dumps(plan, indent=2) + "\n")

    def records(self) -> dict[int, PartRecord]:
        """Return the lines of the manifest by window. Lines that cannot be read are left out: their parts are lost."""
        return {record.window: record for record in _lines(self.path / _MANIFEST, PartRecord)}

    def rows_on(self, rows: int, read: int) -> tuple[int, int]:
        """Go on counting the rows of the manifest.

        Args:
            rows: Number of rows in the lines that were counted.
            read: Number that stands for these lines, see :func:`bsm_core.runtime.durable.read_lines`.

        Returns:
            Both numbers with the lines that have been added since.
        """
        try:
            lines, read = durable.read_lines(self.path / _MANIFEST, read)
        except OSError:  # the run fails, and another place says why
            return rows, read
        return rows + sum(record.rows for record in _parsed(lines, PartRecord)), read

    def attempts(self) -> list[Attempt]:
        """Return the attempts that have begun to score windows."""
        return list({line.attempt: line for line in _lines(self.path / _ATTEMPTS, Attempt)}.values())

    def add(self, *lines: PartRecord | Attempt) -> None:
        """Append lines, all of one kind, and wait until they are on the disk.

        Raises:
            OSError: The file cannot be written.
        """
        name = _MANIFEST if isinstance(lines[0], PartRecord) else _ATTEMPTS
        durable.append(self.path / name, "\n".join(map(_text_of, lines)))

    def keep(self, records: Iterable[PartRecord]) -> None:
        """Rewrite the lines of both files, so that a torn last line does not spoil the next one.

        Args:
            records: Lines of the manifest to keep.

        Raises:
            OSError: The file cannot be written.
        """
        for name, lines in ((_ATTEMPTS, self.attempts()), (_MANIFEST, records)):
            durable.write_lines(self.path / name, "".join(_text_of(line) + "\n" for line in lines))

    def is_whole(self, record: PartRecord) -> bool:
        """Return whether the part of a record is there, with the checksum that it had when it was written."""
        try:
            with self.part(record.window).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == record.sha256
        except OSError:
            return False

    def rows_done(self) -> int:
        """Return the number of rows whose parts are done; 0 without a plan, as no run goes on without one."""
        if self.plan() is None:
            return 0
        return sum(record.rows for record in self.records().values())

    def remove(self) -> None:
        """Remove everything but the lock, whose owner removes it.

        Raises:
            OSError: Something cannot be removed.
        """
        for entry in self.path.iterdir():
            if entry != self.lock:
                durable.remove_tree(entry)  # also of an object, below which lie the lines that were appended to it
                entry.unlink(missing_ok=True)


def _text_of(line: PartRecord | Attempt) -> str:
    """Return a line as JSON, with a checksum of the other values."""
    values = asdict(line)
    return json.dumps({**values, "crc32": _checksum(values)})


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _lines(path: Path, kind: type[L]) -> list[L]:
    return _parsed(durable.read_lines(path)[0], kind)


def _parsed(lines: Iterable[str], kind: type[L]) -> list[L]:
    found = []
    for line in lines:
        try:
            values = json.loads(line)
            if values.pop("crc32") == _checksum(values):
                found.append(kind(**values))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ):  # torn by a crash while it was written
            continue
    return found
