"""Reading the weights that ``save_pretrained`` of transformers writes, in one file or in several shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from bsm_core.artifact.files import corrupt, find, read_json_object, require
from bsm_core.artifact.untrusted.torch_files import read_state_dict
from bsm_core.errors import short_repr

NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names of the file of weights or of the index of shards, in the order in which transformers looks for them."""
_MOST_SHARDS, _LONGEST_NAME = 1_000, 255


def read_transformers_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights in a folder of transformers, without running code.

    Raises:
        MissingArtifactFilesError: The folder has no weights, or lacks a shard; the error lists all of them.
        UnsafeArtifactError: A file refers to code.
        CorruptArtifactError: A file cannot be read, or the shards are not those of the index.
    """
    path = find(folder, NAMES)
    if path is None:
        [path] = require(folder, NAMES)
    if not path.name.endswith(".index.json"):
        return read_state_dict(path, NAMES[0])
    index = read_json_object(path).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise corrupt(path.name, "has no 'weight_map' from names of weights to names of files")
    shards = sorted(set(index.values()))
    if len(shards) > _MOST_SHARDS or not all(map(_is_plain, shards)):
        names = ", ".join(map(short_repr, shards[:3]))
        raise corrupt(path.name, f"names files that are not shards beside it: {names}")
    require(folder, *[(name,) for name in shards])
    weights: dict[str, Tensor] = {}
    for name, value in _weights_of(folder, shards):
        if name in weights:
            raise corrupt(path.name, f"names shards that hold {short_repr(name)} twice")
        weights[name] = value
    if missing := [name for name in index if name not in weights]:
        what = f"names {len(missing)} weights that no shard holds, such as {short_repr(missing[0])}"
        raise corrupt(path.name, what, "copy the folder again")
    return weights


def _is_plain(name: str) -> bool:
    return Path(name).name == name and name.isprintable() and len(name.encode()) <= _LONGEST_NAME


def _weights_of(folder: Path, shards: list[str]) -> Iterator[tuple[str, Tensor]]:
    for shard in shards:
        yield from read_state_dict(folder / shard).items()
