"""Building the tokenizer of a folder as ``AutoTokenizer`` does, without the network and without code of the folder."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.artifact.files import read_json_object, refuse_pointers
from bsm_core.artifact.untrusted.tokenizer_classes import check_class, check_type
from bsm_core.artifact.untrusted.tokenizer_file import (
    check_built,
    check_tokenizer_config,
    check_tokenizer_file,
    ignored_settings,
)
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError, short_repr

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

log = logging.getLogger("bsm")
_CONFIG_KEYS = ("model_type", "tokenizer_class", "model_name", "_name_or_path")
"""Keys of ``config.json`` on which ``AutoTokenizer`` bases the choice of a class."""
_JSON_ALONE = '"tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json makes tokenizer.json count alone'
_PROBES = ("Hello, World! It's 2024.", "  Ünïcödé\tnaïve  ﬁ ½ ①", "中文字 ok", "a_b-c@d.e #1 \U0001f600")


def load_tokenizer(
    folder: Path, name: str | None = None, warn: Callable[[str], object] = lambda line: log.warning("%s", line)
) -> PreTrainedTokenizerBase:
    """Build the tokenizer that ``AutoTokenizer.from_pretrained(folder)`` makes of all files of a folder.

    Args:
        folder: The folder.
        name: Name of the folder in errors and warnings; its path if None.
        warn: Called with a line for each setting that ``AutoTokenizer`` ignores, and if its tokenizer is not that of
            ``tokenizer.json``.

    Raises:
        CorruptArtifactError: The files do not make a tokenizer, or one that is not deterministic or takes any time.
        UnsafeArtifactError: The files refer to files or code elsewhere.
    """
    name = name or str(folder)
    config_file, fast_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    settings = check_tokenizer_config(config_file)
    check_tokenizer_config(folder / "special_tokens_map.json", overriding=True)
    content = check_tokenizer_file(fast_file) if fast_file.is_file() else None
    if content is None:
        refuse_pointers(folder, [*folder.glob("*.txt"), *folder.glob("*.model")], name)  # of which any line is a token
        _require_sentencepiece(folder, name)
    try:
        tokenizer = _build(folder, settings)
    except UnsafeArtifactError:
        raise
    except BaseException as error:
        # A panic of the tokenizers library, which is written in Rust, is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        refuse_pointers(folder, folder.glob("*.json"), name)
        raise _failed(error, folder, name, settings, has_json=content is not None) from error
    if content is None:
        _require_vocabulary(tokenizer, folder, name)
    check_built(tokenizer, name)
    for line in (*ignored_settings(settings, tokenizer), *(_differences(content, tokenizer) if content else ())):
        warn(f"{name}: {line}")
    return tokenizer


def _failed(
    error: BaseException, folder: Path, name: str, settings: Mapping[str, Any], *, has_json: bool
) -> CorruptArtifactError:
    problem = f"{type(error).__name__}: {error}".replace(str(folder), name)
    if "auto_map" in settings:  # the advice of transformers is to trust the code
        problem = "it needs code that comes with it, in auto_map, and bsm never runs code of an artifact"
    fix = "save it again with tokenizer.save_pretrained, which writes tokenizer.json and the name of its class"
    if has_json:
        fix += f"; {_JSON_ALONE}"
    elif (folder / "vocab.json").is_file() and not (folder / "merges.txt").is_file():
        fix = f"add merges.txt, without which vocab.json is no tokenizer; or {fix}"
    where = f"{name}/tokenizer.json" if has_json else name
    return CorruptArtifactError(
        f"the tokenizer cannot be built: {problem}", where=where, fix=fix, details=_found(folder)
    )


def _found(folder: Path) -> list[str]:
    return [f"found: {path.name}" for path in sorted(folder.glob("*"))]


def _require_sentencepiece(folder: Path, name: str) -> None:
    """Check that the library that reads a SentencePiece model is there, if the folder has one.

    Without it, transformers takes the model for another format, and its error names the library of that format.
    """
    models = sorted(path.name for path in folder.glob("*.model"))
    if models and importlib.util.find_spec("sentencepiece") is None:
        raise CorruptArtifactError(
            f"the tokenizer is a SentencePiece model, {models[0]}, which the library sentencepiece reads; it is not"
            " installed, and there is no tokenizer.json",
            where=name,
            fix="run `pip install sentencepiece`; or save the tokenizer again with tokenizer.save_pretrained on a"
            " machine that has it, which writes tokenizer.json",
        )


def _require_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path, name: str) -> None:
    """Check that the files are there from which a class builds its vocabulary, if there is no ``tokenizer.json``.

    Without them, transformers builds a tokenizer that knows the special tokens alone.
    """
    wanted = {file for key, file in tokenizer.vocab_files_names.items() if key != "tokenizer_file" and file}
    missing = sorted(file for file in wanted if not (folder / file).is_file())
    if missing and not any(folder.glob("t*.model")):  # which transformers reads in place of the class's own file
        raise CorruptArtifactError(
            f"a {type(tokenizer).__name__} needs {' and '.join(missing)}, or tokenizer.json",
            where=name,
            details=_found(folder),
            fix="add the file, or correct tokenizer_class in tokenizer_config.json",
        )


def _build(folder: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # takes seconds

    config = _config(folder)
    known = check_class(settings.get("tokenizer_class"), "tokenizer_config.json")
    known |= check_class(getattr(config, "tokenizer_class", None), "config.json")
    check_type(config)
    # A class of the folder's own, which AutoTokenizer refuses; tokenizer.json is complete without it.
    only_json = "auto_map" in settings and not known and (folder / "tokenizer.json").is_file()
    kind: Any = PreTrainedTokenizerFast if only_json else AutoTokenizer
    options = {} if only_json else {"config": config}
    tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **options
    )
    return tokenizer


def _config(folder: Path) -> PreTrainedConfig:
    """Return what ``AutoTokenizer`` needs of ``config.json``.

    ``AutoTokenizer`` alone would build the whole config, which may name other repositories and code.
    """
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    path = folder / "config.json"
    values = read_json_object(path) if path.is_file() else {}
    found = {key: values[key] for key in _CONFIG_KEYS if isinstance(values.get(key), str)}
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[found.get("model_type", "")]()
        del found["model_type"]
    except Exception:  # noqa: BLE001 - of another type: AutoTokenizer goes on with a config of no type, too
        config = PreTrainedConfig()
    for key, value in found.items():
        setattr(config, key, value)
    return config


def _differences(content: Mapping[str, Any], tokenizer: Any) -> Iterator[str]:
    """Yield a line if a tokenizer is not that of ``tokenizer.json``, whose content is given."""
    if not tokenizer.is_fast:
        return
    import transformers

    vocabulary = tokenizer.get_vocab()
    found = next((token for token, number in _tokens(content) if vocabulary.get(token) != number), None)
    ways = "gives another id to" if found is not None else "splits"
    if found is None:
        found = next((probe for probe, same in _probed(content, tokenizer.backend_tokenizer) if not same), None)
    if found is not None:
        yield (
            f"AutoTokenizer of transformers {transformers.__version__} builds a {type(tokenizer).__name__} from these"
            f" files, which {ways} {short_repr(found)} otherwise than tokenizer.json does; AutoTokenizer counts. If the"
            f" model was trained with tokenizer.json alone, {_JSON_ALONE}"
        )


def _tokens(content: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    vocabulary = content["model"].get("vocab")
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    elif isinstance(vocabulary, list):
        yield from ((str(entry[0]), number) for number, entry in enumerate(vocabulary))
    for token in content.get("added_tokens") or ():
        yield str(token.get("content")), token.get("id")


def _probed(content: Mapping[str, Any], backend: Any) -> Iterator[tuple[str, bool]]:
    """Yield texts, each with whether two tokenizers split it into the same pieces, before they look them up."""
    from tokenizers import Tokenizer

    kind = content["model"].get("type")
    few: Any = [["", 0.0]] if kind == "Unigram" else {}
    model = {**content["model"], "vocab": few} | ({"merges": []} if kind == "BPE" else {})
    if kind == "Unigram":
        model["unk_id"] = 0
    if kind is None:
        return  # an older form, which names no kind
    small = Tokenizer.from_str(json.dumps({**content, "model": model, "added_tokens": []}))
    for probe in _PROBES:
        yield probe, _pieces(small, probe) == _pieces(backend, probe)


def _pieces(backend: Any, text: str) -> list[str]:
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    if backend.pre_tokenizer is None:
        return [text]
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
