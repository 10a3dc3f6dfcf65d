"""Marker of a shard that is done: its content, and the digest of the job it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bsm_core.scoring.output.manifest import PartRecord
from bsm_core.scoring.output.markers import SUCCESS, named
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.data_files import FORMATS


class FileState(NamedTuple):
    """Size of a file in bytes, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Read a file to its end.

        Raises:
            OSError: The file cannot be read.
        """
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class DoneShard:
    """Content of the marker ``_SUCCESS-0000I`` of a shard.

    Attributes:
        shard: The shard.
        job: Digest of what all shards of a job have in common.
        output: Name of the prediction file; empty if the platform has given the host no files.
        rows: Number of rows from each file of the shard, in order.
        bytes: Size of the prediction file.
        sha256: SHA-256 of the prediction file, in hexadecimal.
        finished: Time at which the shard was done, in ISO 8601, by the clock of its host.
        embeddings: State of the file of the embeddings; None if there is none.
    """

    shard: Shard
    job: str
    output: str
    rows: Sequence[int]
    bytes: int
    sha256: str
    finished: str
    embeddings: FileState | None = None

    @classmethod
    def of(
        cls,
        shard: Shard,
        job: str,
        output: str,
        states: Sequence[FileState],
        records: Sequence[PartRecord],
        files: int,
    ) -> DoneShard:
        """Return the content of the marker of a shard whose prediction file is in its place.

        Args:
            shard, job, output: See above.
            states: State of the prediction file and, if there is one, that of the file of the embeddings.
            records: Records of its parts.
            files: Number of the files of the shard.
        """
        rows = [0] * files
        for record in records:
            for file, count in record.files:
                rows[file] += count
        return cls(shard, job, output, rows, *states[0], _now(), *states[1:])

    @classmethod
    def without_rows(cls, shard: Shard, job: str) -> DoneShard:
        """Return the content of the marker of a shard without files."""
        return cls(shard, job, "", [], 0, "", _now())

    @classmethod
    def read(cls, path: Path) -> DoneShard | None:
        """Return the content of a marker; None if there is none, or it is no marker of a shard."""
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            values = json.loads(path.read_bytes())
            vectors = values.get("embeddings")
            done = cls(**{**values, "shard": Shard(*values["shard"]), "embeddings": vectors and FileState(*vectors)})
            # No file of another folder.
            names = ["", *(Sink(path.parent, shard=done.shard).path(format).name for format in FORMATS)]
            whole = all(type(count) is int and count >= 0 for count in done.rows) and isinstance(done.finished, str)
            if whole and path.name == named(SUCCESS, done.shard) and done.output in names:
                return done
        return None

    def files(self, output: Path) -> dict[Path, FileState]:
        """Return the files of the shard in an output folder, the predictions first; none if it has no rows."""
        if not self.output:
            return {}
        vectors = {} if self.embeddings is None else {Sink(output, shard=self.shard).embeddings: self.embeddings}
        return {output / self.output: FileState(self.bytes, self.sha256), **vectors}

    def text(self) -> str:
        """Return the content as it is written."""
        return json.dumps(asdict(self)) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def job_of(
    plan: Mapping[str, Any],
    shard: Shard | None,
    states: Mapping[str, Sequence[int | str]],
    settings: Mapping[str, Any],
) -> str:
    """Return the digest of what all shards of a job have in common, in hexadecimal.

    Times of the last change are not in it: hosts that download the same file have others.

    Args:
        plan: Plan of one of them.
        shard: The shard with this plan.
        states: Size of each file of all of them, by name, and the entity tag of an object; empty if the platform has
            divided the data.
        settings: Settings that this plan has from its own files, as they are in all shards.
    """
    common = {**plan, "settings": {**plan["settings"], **settings}, "inputs": states}
    common["settings"]["shard"] = shard and [shard.hosts, shard.divided, shard.job]
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()
