"""Shards: several hosts that share the files of a job without a cluster engine. This module imports nothing slow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bsm_core.errors import ConfigError
from bsm_core.tables.formats.first_bytes import CODECS
from bsm_core.tables.formats.folders import is_pattern, root_of

CONFIG = Path("/opt/ml/config")
"""Folder with the configuration of a SageMaker-style processing container."""
_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")
_GIVE = "give --shard I/N: the number of this host, from 0 to N-1, and the number of hosts"


class Shard(NamedTuple):
    """Share of one host: of the files of the data, in path order, every ``hosts``-th, beginning with ``number``.

    Attributes:
        number: Number of the host, from 0.
        hosts: Number of hosts.
        divided: Whether the platform has given each host its own files already, so that this host reads all it has.
        job: ARN of the job of the platform, if the platform has divided the data and says it; else empty.
    """

    number: int
    hosts: int
    divided: bool = False
    job: str = ""

    def __str__(self) -> str:
        return f"{self.number}/{self.hosts}"

    @property
    def mark(self) -> str:
        """End of the names of this host's markers and work folder, such as ``-00001``."""
        return f"-{self.number:05d}"

    @property
    def name(self) -> str:
        """End of the names of this host's tables, such as ``-00001-of-00003``."""
        return f"-{self.number:05d}-of-{self.hosts:05d}"

    def own(self, table: Path) -> Path:
        """Return the name of this host's own table: ``issues.csv.gz`` becomes ``issues-00001-of-00003.csv.gz``."""
        extension = table.suffix
        if extension.lower() in CODECS:
            extension = Path(table.stem).suffix + extension
        return table.with_name(f"{table.name.removesuffix(extension)}{self.name}{extension}")


def parse(value: Any) -> Any:
    """Return a shard that is given as ``I/N``.

    Raises:
        ValueError: It is none.
    """
    match = _SHARD.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and int(match[1]) < int(match[2]):
        return Shard(int(match[1]), int(match[2]))
    if isinstance(value, list | tuple) and [type(each) for each in value] == [int, int, bool, str]:  # of a run record
        return Shard(*value)
    if value is None:
        return None
    raise ValueError("should be I/N: the number of this host, from 0 to N-1, and the number of hosts, such as 0/3")


def of_container(data: Path, folder: Path | None = None) -> Shard | None:
    """Return the shard of this host in a job of several containers; None in no such container, or if it is alone.

    Args:
        data: File, folder or pattern of the data.
        folder: Folder of ``resourceconfig.json`` and ``processingjobconfig.json``. None: that of a container.

    Raises:
        ConfigError: The files cannot be read, are not what the platform writes, or the platform has divided a part of
            the data alone.
    """
    folder = folder or CONFIG
    path = folder / "resourceconfig.json"
    resources = _json(path)
    hosts, here = resources.get("hosts") or [], resources.get("current_host")
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise ConfigError("hosts is no list of names", where=str(path), fix=_GIVE)
    if len(hosts) < 2:
        return None
    if here not in hosts:
        raise ConfigError(f"the host {here!r} is not among the hosts {hosts}", where=str(path), fix=_GIVE)
    path = folder / "processingjobconfig.json"
    job = _json(path)
    try:
        kinds = set(_distributions(job, root_of(data) if is_pattern(data) else data))
    except (AttributeError, TypeError) as error:
        what = f"the inputs of the job have another form than that of SageMaker: {error}"
        raise ConfigError(what, where=str(path), fix=_GIVE) from error
    if len(kinds) > 1:
        what = "the platform gives each host a part of some inputs in the data folder, and the whole of others"
        fix = "use ShardedByS3Key for all inputs of the data, or for none"
        raise ConfigError(what, where=str(path), fix=fix)
    divided = kinds == {"ShardedByS3Key"}
    return Shard(sorted(hosts).index(here), len(hosts), divided, str(job.get("ProcessingJobArn") or "") * divided)


def _distributions(job: Mapping[str, Any], data: Path) -> Iterator[str]:
    """Yield how the platform distributes each input of a job that is a part of the data, or of which they are one."""
    data = data.resolve()
    for each in job.get("ProcessingInputs") or ():
        for kind, key in (("S3Input", "S3DataDistributionType"), ("DatasetDefinition", "DataDistributionType")):
            source = each.get(kind) or {}
            if source.get("LocalPath"):
                place = Path(source["LocalPath"]).resolve()
                if data.is_relative_to(place) or place.is_relative_to(data):
                    yield source.get(key) or "FullyReplicated"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix=_GIVE) from error
    if not isinstance(found, dict):
        raise ConfigError("is no JSON object", where=str(path), fix=_GIVE)
    return found
