"""Shards: several hosts that share the files of a job without a cluster engine. This module imports nothing slow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bsm_core.errors import ConfigError

CONFIG = Path("/opt/ml/config")
"""Folder with the configuration of a SageMaker-style processing container."""
_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


class Shard(NamedTuple):
    """Share of one host: of the files of the data, in path order, every ``hosts``-th, beginning with ``number``.

    Attributes:
        number: Number of the host, from 0.
        hosts: Number of hosts.
        divided: Whether the platform has given each host its own files already, so that this host reads all it has.
    """

    number: int
    hosts: int
    divided: bool = False

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


def parse(value: Any) -> Any:
    """Return a shard that is given as ``I/N``.

    Raises:
        ValueError: It is none.
    """
    match = _SHARD.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and int(match[1]) < int(match[2]):
        return Shard(int(match[1]), int(match[2]))
    if isinstance(value, list | tuple) and len(value) == len(Shard._fields):  # of a run record
        return Shard(*value)
    if value is None:
        return None
    raise ValueError("should be I/N: the number of this host, from 0 to N-1, and the number of hosts, such as 0/3")


def of_container(data: Path, folder: Path | None = None) -> Shard | None:
    """Return the shard of this host in a job of several containers; None in no such container, or if it is alone.

    Args:
        data: Folder of the data.
        folder: Folder of ``resourceconfig.json`` and ``processingjobconfig.json``. None: that of a container.

    Raises:
        ConfigError: The files cannot be read.
    """
    folder = folder or CONFIG
    resources = _json(folder / "resourceconfig.json")
    hosts = sorted(resources.get("hosts") or ())
    if len(hosts) < 2:
        return None
    here = resources.get("current_host")
    if here not in hosts:
        where, fix = str(folder / "resourceconfig.json"), "give --shard I/N"
        raise ConfigError(f"the host {here!r} is not among the hosts {hosts}", where=where, fix=fix)
    inputs = _json(folder / "processingjobconfig.json").get("ProcessingInputs") or ()
    divided = any(_is_divided(each.get("S3Input") or {}, data) for each in inputs)
    return Shard(hosts.index(here), len(hosts), divided)


def _is_divided(source: Mapping[str, Any], data: Path) -> bool:
    place = Path(source.get("LocalPath") or "/nowhere")
    return source.get("S3DataDistributionType") == "ShardedByS3Key" and data.is_relative_to(place)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="give --shard I/N") from error
    if not isinstance(found, dict):
        raise ConfigError("is no JSON object", where=str(path), fix="give --shard I/N")
    return found
