"""Finding the tokenizer and the encoder config of a text field, offline first.

Both are looked for in the artifact, then under the name that the config has as ``tokenizer``: as a folder of the
artifact, as an absolute folder, and in the local Hugging Face cache. The hub comes last. Code from a hub repository
never runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsm_core.artifact.files import read_json_object
from bsm_core.errors import ConfigError, TokenizerError, UnsafeArtifactError, short_repr

log = logging.getLogger("bsm")


@dataclass(frozen=True)
class TextAsset:
    """Files that a text field needs beside the weights.

    Attributes:
        what: Name in messages.
        folder: Name of the folder in the artifact.
        signs: Files any of which shows that a folder holds the asset.
        files: Patterns of the files that belong to the asset.
    """

    what: str
    folder: str
    signs: tuple[str, ...]
    files: tuple[str, ...]


TOKENIZER = TextAsset(
    "tokenizer",
    "tokenizer",
    (
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "tokenizer.model",
        "spiece.model",
        "spm.model",
        "sentencepiece.bpe.model",
    ),
    ("*token*.json", "vocab.*", "merges.txt", "*.model", "chat_template*", "config.json"),
)
ENCODER = TextAsset("encoder config", "text_encoder", ("config.json",), ("config.json",))


@dataclass(frozen=True)
class AssetLocation:
    """A folder that holds a text asset.

    Attributes:
        folder: The folder.
        prefix: ``"primary_"`` or ``"secondary_"`` for the asset of one text field alone, otherwise empty.
    """

    folder: Path
    prefix: str


_OFFLINE = "HF_HUB_OFFLINE"
"""Environment variable of huggingface_hub; a user who sets it to 0 allows downloads."""
_LONGEST_NAME = 255
_POINT_TO_CODE = ("auto_map", "custom_pipelines")


def find_asset(asset: TextAsset, artifact: Path, config: Mapping[str, Any], prefix: str = "") -> AssetLocation:
    """Find an asset of a text field; download it from the hub if it is nowhere else and downloads are allowed.

    Args:
        asset: What to look for.
        artifact: The artifact's folder.
        config: The artifact's config.
        prefix: Prefix of the text field. Its own folder and config key are tried before those without a prefix.

    Raises:
        TokenizerError: The asset is nowhere; the error lists where it was looked for.
    """
    tried = []
    for place, found in _local(asset, artifact, config, prefix):
        if found is not None and _has(found.folder, asset):
            own_name = _name(config, prefix)
            if prefix != found.prefix and own_name not in (None, _name(config, "")):
                log.warning(
                    "%stokenizer %r was not found offline; the %s of %s is used", prefix, own_name, asset.what, place
                )
            return found
        tried.append(place)
    own = prefix if _name(config, prefix) else ""
    name = _name(config, own)
    cause: Exception | None = None
    on_hub = name if name is not None and not Path(name).is_absolute() else None
    if on_hub:
        tried.append(f"{own}tokenizer = {on_hub!r} on the Hugging Face hub")
    if on_hub and not downloads_allowed():
        tried[-1] += " (not asked: downloads are not allowed)"
    elif on_hub:
        try:
            import huggingface_hub

            folder = Path(huggingface_hub.snapshot_download(on_hub, allow_patterns=list(asset.files)))
            if _has(folder, asset):
                return AssetLocation(folder, own)
        except Exception as error:  # noqa: BLE001 - the hub's client raises errors of many libraries
            tried[-1] += f" ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            cause = error
    raise TokenizerError(
        f"no {asset.what} was found" + (f" for {prefix}text_name" if prefix else ""),
        where=f"config.{prefix}tokenizer",
        details=[f"tried {place}" for place in tried],
        fix=f"put it into the artifact as {asset.folder}/, or run `bsm pack MODEL_DIR packed.tar.gz` on a machine that"
        " has it, or with --allow-downloads on one that can reach the hub: this adds it to the artifact",
    ) from cause


@contextmanager
def downloading(allowed: bool) -> Iterator[None]:
    """Allow this process, and those that it starts, to download tokenizers and encoder configs inside the block.

    Args:
        allowed: Whether to allow it. False: the variable of the environment says it.
    """
    before = os.environ.get(_OFFLINE)
    if allowed:
        os.environ[_OFFLINE] = "0"
    try:
        yield
    finally:
        os.environ.pop(_OFFLINE, None)
        if before is not None:
            os.environ[_OFFLINE] = before


def downloads_allowed() -> bool:
    """Return whether the user allowed downloads: an artifact alone must not make this machine talk to another."""
    return os.environ.get(_OFFLINE, "").strip().lower() in ("0", "false", "no", "off")


def find_inside(asset: TextAsset, artifact: Path, config: Mapping[str, Any], prefix: str = "") -> AssetLocation | None:
    """Find an asset of a text field in the artifact alone; None if it is not there."""
    places = (found for _, found in _local(asset, artifact, config, prefix) if found is not None)
    inside = (found for found in places if found.folder.is_relative_to(artifact))
    return next((found for found in inside if _has(found.folder, asset)), None)


def find_cached(asset: TextAsset, name: str) -> Path | None:
    """Return the folder of an asset in the local Hugging Face cache; None if it is not there. Nothing is downloaded.

    Args:
        asset: What to look for.
        name: Name on the hub, such as ``"google/bert_uncased_L-2_H-128_A-2"``.
    """
    import huggingface_hub

    try:
        hits = (huggingface_hub.try_to_load_from_cache(name, sign) for sign in asset.signs)
        return next((Path(hit).parent for hit in hits if isinstance(hit, str)), None)
    except ValueError:  # not the form of a hub name
        return None


def load_encoder_config(folder: Path) -> dict[str, Any]:
    """Return the encoder's ``config.json`` as a dict, without the keys that can make transformers download code.

    Raises:
        CorruptArtifactError: The file is not a JSON object.
        UnsafeArtifactError: The file gives other names to keys, which could hide such a key.
    """
    where = f"{folder.name}/config.json"
    return dict(_without_code(read_json_object(folder / "config.json", where), where))


def _without_code(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        if "attribute_map" in value:
            raise UnsafeArtifactError(
                f"{where} gives other names to its keys, in attribute_map, and could run code",
                where=where,
                fix="remove this key, if you trust the artifact",
            )
        return {key: _without_code(inner, where) for key, inner in value.items() if not _points_to_code(key)}
    return [_without_code(inner, where) for inner in value] if isinstance(value, list) else value


def _points_to_code(key: str) -> bool:
    return key in _POINT_TO_CODE or "_implementation" in key  # such as _attn_implementation_internal


def _local(
    asset: TextAsset, artifact: Path, config: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, AssetLocation | None]]:
    """Yield the places to look at, best first, without the hub: a description and the folder, if there may be one."""
    for pre in dict.fromkeys((prefix, "")):
        yield f"{pre}{asset.folder}/ in the artifact", AssetLocation(artifact / f"{pre}{asset.folder}", pre)
        name = _name(config, pre)
        if name is None:
            continue
        key = f"{pre}tokenizer = {name!r}"
        if Path(name).is_absolute():
            yield f"{key} as an absolute folder", AssetLocation(Path(name), pre)
            continue
        folder = artifact / name
        is_inside = folder.resolve().is_relative_to(artifact.resolve())  # "../x" is no folder of the artifact
        yield f"{key} as a folder of the artifact", AssetLocation(folder, pre) if is_inside else None
        cached = find_cached(asset, name)
        yield f"{key} in the local Hugging Face cache", AssetLocation(cached, pre) if cached else None


def _name(config: Mapping[str, Any], prefix: str) -> str | None:
    name = config.get(f"{prefix}tokenizer")
    if name is not None and not isinstance(name, str):
        raise ConfigError(
            f"{prefix}tokenizer is a {type(name).__name__}, not text",
            where=f"config.{prefix}tokenizer",
            fix="give the name or the folder of a tokenizer",
        )
    if name and not (
        name.isprintable()
        and max(len(os.fsencode(part)) for part in name.split("/")) <= _LONGEST_NAME
        and len(name) <= 1_000
    ):
        raise ConfigError(
            f"{prefix}tokenizer is {short_repr(name)}, which no folder can be named: it is too long, or has control"
            " characters",
            where=f"config.{prefix}tokenizer",
            fix="give the name or the folder of a tokenizer",
        )
    return name or None


def _has(folder: Path, asset: TextAsset) -> bool:
    return any((folder / sign).is_file() for sign in asset.signs)
