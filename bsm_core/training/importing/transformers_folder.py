"""Importing a sequence classifier that ``save_pretrained`` of transformers wrote."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.artifact import save_artifact
from bsm_core.artifact.contract import TOKENIZING, TRANSFORMERS_CLASSIFIER
from bsm_core.artifact.files import find, read_json_object
from bsm_core.artifact.pretrained_files import TOKENIZER, load_encoder_config
from bsm_core.artifact.save import copy_asset
from bsm_core.artifact.untrusted.transformers_weights import read_transformers_weights
from bsm_core.errors import ConfigError, TokenizerError, UsageError, WeightsMismatchError, short_repr
from bsm_core.plugins.registry import Registry
from bsm_core.training.importing.model_probe import ModelProbe
from bsm_core.training.importing.tokenizer_check import check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("bsm")

CONFIG = "config.json"
_LONGEST = 512
"""Tokens of a text that are read, unless the caller says another number or the encoder has fewer positions."""
_HEAD = "ForSequenceClassification"
_DEQUANTIZE = "save it dequantized, with model.dequantize().save_pretrained(FOLDER) or from the weights before"
_OTHER_PROBLEMS = {
    "multi_label_classification": "each of its labels is true or false for itself, and a row may have several",
    "regression": "its output is a number, not a class",
}


def is_transformers_folder(folder: Path) -> bool:
    """Return whether a folder holds a ``config.json`` of transformers."""
    path = folder / CONFIG
    return path.is_file() and not {"model_type", "architectures"}.isdisjoint(read_json_object(path))


def fill_from_transformers(
    target: Path, source: Path, text_column: str, max_sen_len: int | None, registry: Registry
) -> None:
    """Write the files of the artifact of a sequence classifier.

    Args:
        target: Folder of the artifact.
        source: Folder that ``save_pretrained`` of transformers wrote, of the model and of its tokenizer.
        text_column: Column of the text.
        max_sen_len: Tokens of a text that are read, with special tokens. None: 512, or fewer if the encoder has fewer
            positions, or the tokenizer a smaller ``model_max_length``.
        registry: Registry in which the model class is looked up.

    Raises:
        UsageError: ``max_sen_len`` is too small or too large.
        ConfigError: The model is no classifier of one class for each row, or bsm cannot build it.
        MissingArtifactFilesError: The weights are missing.
        WeightsMismatchError: Weights are missing, or of another shape; the error lists all of them.
        TokenizerError, CorruptArtifactError, UnsafeArtifactError: A file cannot be used.
    """
    own = load_encoder_config(source)
    names = _class_names(own)
    _check_kind(read_json_object(source / CONFIG))
    config: dict[str, Any] = {
        "model_class": TRANSFORMERS_CLASSIFIER,
        "text_name": text_column,
        "text_processing_steps": [*TOKENIZING],
        "is_binary": len(names) == 2,
        "num_classes": len(names),
        "class_names": names,
        "tokenizer": TOKENIZER.folder,
    }
    where = f"{source / CONFIG}"
    probe = ModelProbe({**config, "text_encoder": own, "max_sen_len": 1}, registry, where)
    config["max_sen_len"] = _length(max_sen_len, _checked_tokenizer(source, probe.vocabulary), probe.longest)
    try:
        weights = probe.fit_pretrained(read_transformers_weights(source))
    except WeightsMismatchError as error:
        error.where = str(source)
        lacking = [line for line in error.details if line.startswith(("missing: ", "shape: "))]
        if lacking:
            error.fix = "copy the folder again, or correct the sizes in its config.json"
        elif any(line.startswith("unexpected: ") for line in error.details):
            error.fix = _DEQUANTIZE
        if any("classifier" in line or "out_proj" in line for line in lacking):
            error.fix = f"{error.fix}; its id2label names {len(names)} classes"
        raise
    save_artifact(
        target,
        config=config,
        state_dict=weights,
        risk_tables={},
        impute={},
        encoder_configs={"": own},
        safe_only=True,
    )
    copy_asset(TOKENIZER, source, target / TOKENIZER.folder)


def _class_names(config: Mapping[str, Any]) -> list[str]:
    """Return the name of each class, as ``id2label`` has it; those of transformers if there is no ``id2label``.

    Raises:
        ConfigError: There is one class, ``num_labels`` is another number, or an index has no name.
    """
    names, count, problem_type = config.get("id2label"), config.get("num_labels"), config.get("problem_type")
    if names is None:
        names = {str(i): f"LABEL_{i}" for i in range(count if isinstance(count, int) and 0 < count < 1_000_000 else 2)}
    problem = None
    if not isinstance(names, Mapping) or {*names} != {str(i) for i in range(len(names))}:
        problem = f"id2label is {short_repr(names)}, expected a name for each class 0, 1 and so on"
    elif not all(isinstance(name, str | int | float) and str(name).strip() for name in names.values()):
        problem = f"id2label is {short_repr(names)}, in which a class has no name"
    elif len(different := {str(name) for name in names.values()}) < len(names):
        problem = f"id2label has {len(names)} names, {len(different)} of them different"
    elif count not in (None, len(names)):
        problem = f"id2label names {len(names)} classes, num_labels is {count!r}"
    elif problem_type in _OTHER_PROBLEMS or len(names) == 1:
        kind = str(problem_type) if problem_type in _OTHER_PROBLEMS else "regression"
        problem = f"the model is for {kind} ({len(names)} label(s)): {_OTHER_PROBLEMS[kind]}"
    if problem:
        fix = "import a classifier of two or more classes, of which each row has one; id2label names each of them"
        raise ConfigError(problem, where=f"{CONFIG} of the model", fix=fix)
    return [str(names[str(i)]) for i in range(len(names))]


def _check_kind(config: Mapping[str, Any]) -> None:
    """Check that the model has a classifier of a type that transformers knows, without code of the folder.

    Raises:
        ConfigError: The model has no classifier, is quantized, or needs code that comes with it.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if quantization := config.get("quantization_config"):
        what = f"the weights are quantized ({short_repr(quantization)}), which is not read"
        raise ConfigError(what, where=f"{CONFIG}: quantization_config", fix=_DEQUANTIZE)
    kind, has_code = str(config.get("model_type")), "auto_map" in config
    named = [name for name in _texts(config.get("architectures")) if _HEAD in name]
    if not named and config.get("architectures"):
        raise ConfigError(
            f"the folder holds {short_repr(config['architectures'])}, which has no classifier",
            where=f"{CONFIG}: architectures",
            fix=f"give the folder of a model whose class ends in {_HEAD}; or fine-tune this one with `bsm train`, with"
            " the folder as the config keys text_encoder and tokenizer",
        )
    if kind not in KNOWN:
        why = "; it comes with code of its own, in auto_map, which bsm never runs" if has_code else ""
        raise ConfigError(
            f"transformers has no sequence classifier of model_type {short_repr(kind)}{why}",
            where=f"{CONFIG}: model_type",
            fix="import a model of a type that transformers has, or write a model class: docs/plugins/model-class.md",
        )
    if has_code:
        log.warning("the model comes with code of its own, which bsm never runs: %s is used", KNOWN[kind])
    if named and KNOWN[kind] not in named:
        log.warning("the model was saved as a %s; %s is used, as its model_type says", named[0], KNOWN[kind])


def _texts(value: Any) -> Iterator[str]:
    yield from (text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _checked_tokenizer(source: Path, vocabulary: int | None) -> PreTrainedTokenizerBase:
    if find(source, TOKENIZER.signs) is None:
        raise TokenizerError(
            "the folder has no tokenizer",
            where=str(source),
            details=[f"looked for {', '.join(TOKENIZER.signs)}"],
            fix="save the tokenizer of the model there, with tokenizer.save_pretrained",
        )
    return check_vocabulary(source, vocabulary)


def _length(wanted: int | None, tokenizer: PreTrainedTokenizerBase, positions: int | None) -> int:
    """Return the number of tokens of a text that are read.

    Raises:
        UsageError: The number that is wanted leaves no room for a token, or is more than the encoder takes.
    """
    if wanted is None:
        most = tokenizer.model_max_length  # a very large number if the tokenizer has no limit
        known = [most] if isinstance(most, int) and most > 0 else []
        return min(_LONGEST, *known, *([] if positions is None else [positions]))
    if positions is not None and wanted > positions:
        what = f"max_sen_len is {wanted}, the encoder has positions for {positions} tokens"
        raise UsageError(what, fix=f"give {positions} or less")
    special = tokenizer.num_special_tokens_to_add()
    if wanted <= special:
        what = f"max_sen_len is {wanted}, and the tokenizer adds {special} special tokens, so no text would be read"
        raise UsageError(what, fix=f"give {special + 1} or more")
    return wanted
