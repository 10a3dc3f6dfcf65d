"""Checking the files of a tokenizer before the tokenizers library and transformers read them.

The library trusts ``tokenizer.json``: a normalizer can double a text thirty times, a padding can have any length, and a
model can be random. transformers passes every key of ``tokenizer_config.json`` to the tokenizer's class, which opens
some of them as files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bsm_core.artifact.files import corrupt, read_json_object
from bsm_core.errors import UnsafeArtifactError, short_repr

_MOST_GROWTH = 64
"""Characters that the replacements of a normalizer may make of one."""
_LONGEST_WORD = 10_000
"""Characters of a word: WordPiece takes time that grows with the square of the word."""
_MOST_PIECES = 1_000
_OPENED = ("vocab", "merges", "init_inputs", "fast_tokenizer_files")
_NAMES_OF_FILES = ("_file", "_path", "_dir", "_dic")
_HARMLESS = ("tokenizer_file", "special_tokens_map_file", "name_or_path")
"""Keys that transformers wrote with a path of another machine, and does not read."""
_NORMALIZER_KEYS = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
"""Keys of ``tokenizer_config.json``, and the key of a normalizer that decides instead."""
_LARGEST_ID = 10_000_000


def check_tokenizer_file(path: Path) -> None:
    """Check that a tokenizer is deterministic, and that it takes time and memory in proportion to the text.

    Raises:
        CorruptArtifactError: The file is no tokenizer, or exceeds a limit.
    """
    content = read_json_object(path)
    if problems := list(itertools.islice(dict.fromkeys(_problems(content)), 10)):
        fix = "save it again with tokenizer.save_pretrained, from a source that you trust"
        raise corrupt(path.name, "cannot be used as a tokenizer", fix, details=problems)


def check_tokenizer_config(path: Path) -> None:
    """Check that no key of ``tokenizer_config.json`` makes transformers open a file, which can be any of the machine.

    Raises:
        CorruptArtifactError: The file is no JSON object.
        UnsafeArtifactError: A key names a file.
    """
    for key, value in read_json_object(path).items() if path.is_file() else ():
        names_file = (key in _OPENED and not isinstance(value, dict)) or key.endswith(_NAMES_OF_FILES)
        if value and names_file and key not in _HARMLESS:
            raise UnsafeArtifactError(
                f"{path.name}: the key {key!r} could make the tokenizer read another file of this machine",
                where=path.name,
                fix="remove this key; save the tokenizer with tokenizer.save_pretrained, which writes tokenizer.json",
            )


def ignored_settings(folder: Path) -> list[str]:
    """Return a warning for each key of ``tokenizer_config.json`` that ``tokenizer.json`` contradicts and overrules.

    Raises:
        CorruptArtifactError: A file cannot be read.
    """
    paths = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not all(path.is_file() for path in paths):
        return []
    config, tokenizer = map(read_json_object, paths)
    wanted = {name: config[key] for key, name in _NORMALIZER_KEYS.items() if isinstance(config.get(key), bool)}
    if not wanted:
        return []
    found = list(_objects(tokenizer.get("normalizer")))
    decided: dict[str, Any] = {}
    if not any(normalizer.get("type") == "Precompiled" for normalizer in found):  # whose table may do anything
        decided["lowercase"] = any(normalizer.get("type") == "Lowercase" for normalizer in found)
    for normalizer in found:
        decided |= {name: normalizer[name] for name in wanted if name in normalizer}
    return [
        f"{folder.name}/tokenizer_config.json has {key}: {str(wanted[name]).lower()}, but the normalizer of"
        f" tokenizer.json does the opposite; tokenizer.json counts"
        for key, name in _NORMALIZER_KEYS.items()
        if name in wanted and isinstance(decided.get(name), bool) and decided[name] != wanted[name]
    ]


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    model = content.get("model")
    if not isinstance(model, dict):
        yield "model: not an object"
        return
    yield from _model_problems(model)
    for token in _list(content.get("added_tokens")):
        yield from _id_problems("added_tokens", token.get("id") if isinstance(token, dict) else None)
    growth = math.prod(map(_growth, _objects(content.get("normalizer"))))
    if growth > _MOST_GROWTH:
        yield f"normalizer: it makes up to {growth:.3g} characters of one"
    for key in ("padding", "truncation", "post_processor", "pre_tokenizer", "decoder"):
        for inner in _objects(content.get(key)):
            yield from _size_problems(key, inner)


def _model_problems(model: Mapping[str, Any]) -> Iterator[str]:
    for key in ("dropout", "alpha", "nbest_size"):
        if model.get(key):
            yield f"model.{key}: it is {short_repr(model[key])}, so the tokenizer returns other tokens in each run"
    vocab = model.get("vocab")
    for number in vocab.values() if isinstance(vocab, dict) else ():
        yield from _id_problems("model.vocab", number)
    longest = model.get("max_input_chars_per_word")
    if longest is not None and not (isinstance(longest, int) and 0 <= longest <= _LONGEST_WORD):
        yield f"model.max_input_chars_per_word: it is {short_repr(longest)}, not a number up to {_LONGEST_WORD:,}"


def _id_problems(place: str, number: Any) -> Iterator[str]:
    if not _is_id(number):
        yield f"{place}: {short_repr(number)} is not the id of a token"


def _is_id(number: Any) -> bool:
    return type(number) is int and 0 <= number <= _LARGEST_ID


def _size_problems(place: str, value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, list | dict) and len(inner) > _MOST_PIECES:
            yield f"{place}.{key}: it has {len(inner):,} entries"
        for number in (inner, *_list(inner)):
            if isinstance(number, int) and not 0 <= number <= _LARGEST_ID:
                yield f"{place}.{key}: it is {short_repr(number)}"


def _growth(normalizer: Mapping[str, Any]) -> float:
    """Return how many characters a normalizer makes of one, at most; those of Unicode's forms are left out."""
    content, pattern = normalizer.get("content"), normalizer.get("pattern")
    if normalizer.get("type") == "Prepend":
        return max(1.0, len(str(normalizer.get("prepend", ""))) / 8)
    if not isinstance(content, str):
        return 1.0
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1.0, len(content) / max(1, len(text) if isinstance(text, str) else 1))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a value, from the outside."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    else:
        for inner in _list(value):
            yield from _objects(inner)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
