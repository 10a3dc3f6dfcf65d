"""Where the tokenizer and the encoder's config of a text field are: offline first.

Both are looked for in the artifact, then under the name that the config's ``tokenizer`` gives: a folder of the
artifact, an absolute folder, the local Hugging Face cache. The hub comes last. Code from a hub repository never runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.artifact.config import TextField
from bsm_core.artifact.files import read_json_object
from bsm_core.errors import ConfigError, CorruptArtifactError, TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """What is looked for.

    Attributes:
        what: Its name, for people.
        folder: Its folder in the artifact.
        signs: Files, any of which makes a folder the right one.
        files: Patterns of the files that belong to it.
    """

    what: str
    folder: str
    signs: tuple[str, ...]
    files: tuple[str, ...]


TOKENIZER = Part(
    "tokenizer",
    "tokenizer",
    ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    ("*token*.json", "vocab.*", "merges.txt", "*.model", "chat_template*", "config.json"),
)
ENCODER = Part("encoder config", "text_encoder", ("config.json",), ("config.json",))


@dataclass(frozen=True)
class Found:
    """A folder that has the part.

    Attributes:
        folder: The folder.
        prefix: ``"primary_"`` or ``"secondary_"`` if it is for that text field alone, else empty.
        inside: Whether it is in the artifact.
    """

    folder: Path
    prefix: str
    inside: bool


_POINT_TO_CODE = ("auto_map", "custom_pipelines", "attn_implementation", "_attn_implementation")


def names_tokenizer(config: Mapping[str, Any], prefix: str = "") -> bool:
    """Whether the config names a tokenizer for a text field."""
    return any(config.get(f"{own}tokenizer") for own in (prefix, ""))


def prefix_of(field: TextField) -> str:
    """``"primary_"``, ``"secondary_"`` or nothing."""
    return field.key.removesuffix("text_name")


def find_part(part: Part, artifact: Path, config: Mapping[str, Any], prefix: str = "") -> Found:
    """Find a part of a text field, from the hub if need be.

    Args:
        part: What to look for.
        artifact: The artifact's folder.
        config: The artifact's config.
        prefix: Of the text field. Its own folder and config key come before those without a prefix.

    Raises:
        TokenizerError: It is nowhere; the error lists what was tried.
    """
    tried = []
    for place, found in _local(part, artifact, config, prefix):
        if found is not None and _has(found.folder, part):
            own_name = _name(config, prefix)
            if prefix != found.prefix and own_name not in (None, _name(config, "")):
                logger.warning(
                    "%stokenizer %r was not found offline; the %s of %s is used", prefix, own_name, part.what, place
                )
            return found
        tried.append(place)
    own = prefix if _name(config, prefix) else ""
    name = _name(config, own)
    if name is not None and not Path(name).is_absolute():
        tried.append(f"{own}tokenizer = {name!r} on the Hugging Face hub")
        try:
            folder = _from_hub(name, part)
        except Exception as error:
            tried[-1] += f" ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            raise _not_found(part, prefix, tried) from error
        if _has(folder, part):
            return Found(folder, own, inside=False)
    raise _not_found(part, prefix, tried)


def _not_found(part: Part, prefix: str, tried: list[str]) -> TokenizerError:
    return TokenizerError(
        f"no {part.what} is to be found" + (f" for {prefix}text_name" if prefix else ""),
        where=f"config.{prefix}tokenizer",
        details=[f"tried {place}" for place in tried],
        fix=f"put it into the artifact as {part.folder}/, or run `bsm pack MODEL_DIR packed.tar.gz` on a machine that"
        " has it or can reach the hub: that packs it in",
    )


def find_inside(part: Part, artifact: Path, config: Mapping[str, Any], prefix: str = "") -> Found | None:
    """The same, looking in the artifact alone."""
    places = (found for _, found in _local(part, artifact, config, prefix, outside=False))
    return next((found for found in places if found is not None and _has(found.folder, part)), None)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Build the tokenizer of a folder.

    ``tokenizer.json`` is all of it, and is preferred: current transformers lose entries of a bare vocabulary file.

    Raises:
        CorruptArtifactError: The files do not make a tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # takes seconds

    fast = (folder / "tokenizer.json").is_file()
    try:
        tokenizer: PreTrainedTokenizerBase = (
            PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            if fast
            else AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )
    except Exception as error:
        raise CorruptArtifactError(
            f"the tokenizer cannot be built: {type(error).__name__}: {error}",
            where=str(folder / "tokenizer.json") if fast else str(folder),
            fix="save it again with tokenizer.save_pretrained, which writes tokenizer.json",
        ) from error
    return tokenizer


def load_encoder_config(folder: Path) -> dict[str, Any]:
    """The encoder's ``config.json`` as a dict, without the keys that can make transformers fetch code.

    Raises:
        CorruptArtifactError: It is not a JSON object.
    """
    values = read_json_object(folder / "config.json", f"{folder.name}/config.json")
    config: dict[str, Any] = _without_code(values)
    return config


def _without_code(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_code(inner) for key, inner in value.items() if key not in _POINT_TO_CODE}
    return [_without_code(inner) for inner in value] if isinstance(value, list) else value


def _local(
    part: Part, artifact: Path, config: Mapping[str, Any], prefix: str, *, outside: bool = True
) -> Iterator[tuple[str, Found | None]]:
    """The places to look, best first, without the hub."""
    for pre in dict.fromkeys((prefix, "")):
        yield f"{pre}{part.folder}/ in the artifact", Found(artifact / f"{pre}{part.folder}", pre, inside=True)
        name = _name(config, pre)
        if name is None:
            continue
        key = f"{pre}tokenizer = {name!r}"
        if Path(name).is_absolute():
            if outside:
                yield f"{key} as an absolute folder", Found(Path(name), pre, inside=False)
            continue
        folder = artifact / name
        is_inside = folder.resolve().is_relative_to(artifact.resolve())  # "../x" is no folder of the artifact
        yield f"{key} as a folder of the artifact", Found(folder, pre, inside=True) if is_inside else None
        if outside:
            cached = _from_cache(name, part)
            yield f"{key} in the local Hugging Face cache", Found(cached, pre, inside=False) if cached else None


def _name(config: Mapping[str, Any], prefix: str) -> str | None:
    name = config.get(f"{prefix}tokenizer")
    if name is not None and not isinstance(name, str):
        raise ConfigError(
            f"{prefix}tokenizer is a {type(name).__name__}, not text",
            where=f"config.{prefix}tokenizer",
            fix="give the name or the folder of a tokenizer",
        )
    return name or None


def _has(folder: Path, part: Part) -> bool:
    return any((folder / sign).is_file() for sign in part.signs)


def _from_cache(name: str, part: Part) -> Path | None:
    import huggingface_hub

    try:
        hits = (huggingface_hub.try_to_load_from_cache(name, sign) for sign in part.signs)
        return next((Path(hit).parent for hit in hits if isinstance(hit, str)), None)
    except ValueError:  # not the form of a hub name
        return None


def _from_hub(name: str, part: Part) -> Path:
    import huggingface_hub

    return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(part.files)))
