"""Checking the files of a tokenizer before the tokenizers library and transformers read them.

The library trusts ``tokenizer.json``: a normalizer can double a text thirty times, a padding can have any length, and a
model can be random. transformers passes every key of ``tokenizer_config.json`` to the tokenizer's class, which opens
some of them as files.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bsm_core.artifact.files import corrupt, read_json_object
from bsm_core.artifact.untrusted.tokenizer_pipeline import built_problems, objects, pipeline_problems
from bsm_core.errors import UnsafeArtifactError, short_repr

_LONGEST_WORD, _LONGEST_PIECE, _LONGEST_PREFIX = 1_000, 500, 100
"""Characters of a word: WordPiece takes time that grows with the square of the word; of a token of Unigram, which is
looked for at each character; of what is put before or after each piece of a word."""
_MOST_ADDED = 10_000
"""Added tokens. transformers takes 100 us for each."""
_MOST_PIECES = 1_000
_OPENED = ("vocab", "merges", "init_inputs", "fast_tokenizer_files")
_NAMES_OF_FILES = ("_file", "_path", "_dir", "_dic")
_HARMLESS = ("tokenizer_file", "special_tokens_map_file", "name_or_path")
"""Keys that transformers wrote with a path of another machine, and does not read."""
_PLACE = ("name_or_path", "is_local", "local_files_only")
"""Keys that say where transformers looks for files: it sets them after it read ``tokenizer_config.json``, and before it
reads ``special_tokens_map.json``."""
_NORMALIZER_KEYS = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
"""Keys of ``tokenizer_config.json``, and the key of a normalizer that follows them."""
_LARGEST_ID = 10_000_000
_RANDOM = ("dropout", "alpha", "nbest_size")
"""Keys of a model that make it random."""
_OF_MODEL = ("max_input_chars_per_word", "continuing_subword_prefix", "end_of_word_suffix")
"""Keys of a model that have a limit, and that a tokenizer tells after it was built."""
_LARGEST_SETTING = 10_000
_IS_SIZE = re.compile("(?:(?<!extra)_ids?|len|length|sizes?|embeddings|id2lang|lang2id|vocab)$")
"""Keys that may have a larger number, because nothing is made for each: the length of texts, or of the vocabulary."""


def check_tokenizer_file(path: Path) -> dict[str, Any]:
    """Check that a tokenizer is deterministic, and that it takes time and memory in proportion to the text.

    Returns:
        The content of the file.

    Raises:
        CorruptArtifactError: The file is no tokenizer, or exceeds a limit.
    """
    content = read_json_object(path)
    if problems := list(itertools.islice(dict.fromkeys(_problems(content)), 10)):
        fix = "save it again with tokenizer.save_pretrained, from a source that you trust"
        raise corrupt(path.name, "cannot be used as a tokenizer", fix, details=problems)
    return content


def check_tokenizer_config(path: Path, *, overriding: bool = False) -> dict[str, Any]:
    """Check that no key makes transformers open a file, which can be any of the machine.

    Args:
        path: ``tokenizer_config.json`` or ``special_tokens_map.json``, if it is there.
        overriding: Whether the file is ``special_tokens_map.json``. transformers takes its keys for settings too, and
            lets them override where it found the files.

    Returns:
        The content of the file; empty if it is not there.

    Raises:
        CorruptArtifactError: The file is no JSON object, or exceeds a limit.
        UnsafeArtifactError: A key names a file.
    """
    others = path.with_name("added_tokens.json")
    if others.is_file() and (count := len(read_json_object(others))) > _MOST_ADDED:
        raise corrupt(others.name, f"has {count:,} entries, more than {_MOST_ADDED:,}")
    content = read_json_object(path) if path.is_file() else {}
    for key, value in content.items():
        if (number := next((n for n in _integers(value) if abs(n) > _LARGEST_SETTING), 0)) and not _IS_SIZE.search(key):
            raise corrupt(path.name, f"has {short_repr(number)} as {short_repr(key)}, more than {_LARGEST_SETTING:,}")
        if isinstance(value, list | dict) and key != "vocab" and len(value) > _MOST_ADDED:
            raise corrupt(path.name, f"has {len(value):,} entries in {short_repr(key)}, more than {_MOST_ADDED:,}")
        overrides = overriding and key in _PLACE
        if overrides or (_names_file(key, value) and (overriding or key not in _HARMLESS)):
            raise UnsafeArtifactError(
                f"{path.name}: the key {short_repr(key)} could make the tokenizer read another file, of this machine or"
                " of the hub",
                where=path.name,
                fix="remove this key; save the tokenizer with tokenizer.save_pretrained, which writes tokenizer.json",
            )
    return content


def _opens(key: str, value: Any) -> bool:
    return bool(value) and ((key in _OPENED and not isinstance(value, dict)) or key.endswith(_NAMES_OF_FILES))


def _names_file(key: str, value: Any) -> bool:
    """Return whether a key can make a tokenizer open a file. Options for another library are looked through."""
    inner = objects(value) if key.endswith("_kwargs") else ()
    return _opens(key, value) or any(_opens(*pair) for options in inner for pair in options.items())


def check_built(tokenizer: Any, name: str) -> None:
    """Check a tokenizer as ``tokenizer.json`` is checked, from whatever files it was built.

    Raises:
        CorruptArtifactError: The tokenizer returns other tokens in each run, or exceeds a limit.
    """
    if not tokenizer.is_fast:
        return
    backend = tokenizer.backend_tokenizer
    model = {key: getattr(backend.model, key, None) for key in (*_RANDOM, *_OF_MODEL)}
    if problems := [*built_problems(backend), *_model_problems(model)]:
        fix = "save it again with tokenizer.save_pretrained, from a source that you trust"
        raise corrupt(name, "cannot be used as a tokenizer", fix, details=problems[:10])


def ignored_settings(settings: Mapping[str, Any], tokenizer: Any) -> list[str]:
    """Return a line for each key of ``tokenizer_config.json`` to which the tokenizer does not keep.

    Args:
        settings: Content of ``tokenizer_config.json``.
        tokenizer: The tokenizer that was built with it.
    """
    wanted = {name: settings[key] for key, name in _NORMALIZER_KEYS.items() if isinstance(settings.get(key), bool)}
    if not (wanted and tokenizer.is_fast):
        return []
    normalizer = tokenizer.backend_tokenizer.normalizer
    found = [] if normalizer is None else list(objects(json.loads(normalizer.__getstate__())))
    decided: dict[str, Any] = {}
    if not any(normalizer.get("type") == "Precompiled" for normalizer in found):  # whose table may do anything
        decided["lowercase"] = any(normalizer.get("type") == "Lowercase" for normalizer in found)
    for normalizer in found:
        decided |= {name: normalizer[name] for name in wanted if name in normalizer}
    return [
        f"tokenizer_config.json has {key}: {str(wanted[name]).lower()}, and AutoTokenizer ignores it: the"
        f" {type(tokenizer).__name__} that it builds does the opposite"
        for key, name in _NORMALIZER_KEYS.items()
        if name in wanted and isinstance(decided.get(name), bool) and decided[name] != wanted[name]
    ]


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    model = content.get("model")
    if not isinstance(model, dict):
        yield "model: not an object"
        return
    yield from _model_problems(model)
    added = _list(content.get("added_tokens"))
    if len(added) > _MOST_ADDED:
        yield f"added_tokens: there are {len(added):,}, more than {_MOST_ADDED:,}"
    for token in added[:_MOST_ADDED]:
        yield from _id_problems("added_tokens", token.get("id") if isinstance(token, dict) else None)
    yield from pipeline_problems(content)
    for key in ("padding", "truncation", "post_processor", "pre_tokenizer", "decoder"):
        for inner in objects(content.get(key)):
            yield from _size_problems(key, inner)


def _model_problems(model: Mapping[str, Any]) -> Iterator[str]:
    yield from _random(model)
    vocab = model.get("vocab")
    for number in vocab.values() if isinstance(vocab, dict) else ():
        yield from _id_problems("model.vocab", number)
    longest = model.get("max_input_chars_per_word")
    if longest is not None and not (isinstance(longest, int) and 0 <= longest <= _LONGEST_WORD):
        yield f"model.max_input_chars_per_word: it is {short_repr(longest)}, not a number up to {_LONGEST_WORD:,}"
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if isinstance(model.get(key), str) and len(model[key]) > _LONGEST_PREFIX:
            yield f"model.{key}: it has {len(model[key]):,} characters, more than {_LONGEST_PREFIX}"
    pieces = (entry[0] for entry in _list(vocab) if isinstance(entry, list) and entry and isinstance(entry[0], str))
    if (size := max(map(len, pieces), default=0)) > _LONGEST_PIECE:
        yield f"model.vocab: it has a token of {size:,} characters, more than {_LONGEST_PIECE}"


def _random(model: Mapping[str, Any]) -> Iterator[str]:
    for key in _RANDOM:
        if model.get(key):
            yield f"model.{key}: it is {short_repr(model[key])}, so the tokenizer returns other tokens in each run"


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


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _integers(inner)
    elif isinstance(value, int | float):
        yield int(value) if math.isfinite(value) else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
