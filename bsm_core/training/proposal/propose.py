"""Proposal of a training config for a table: the kinds of its columns, a model class, and the other keys."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bsm_core.artifact.contract import FULL_CLEANING, MINIMAL_CLEANING
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER
from bsm_core.errors import DataError, UsageError, quoted
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.preprocess.cells import category_key
from bsm_core.preprocess.columns import text_values
from bsm_core.storage.objects import place
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.config.pretrained_folders import problem_of, trained_pooling
from bsm_core.training.config.unread_keys import keys_of
from bsm_core.training.optional.lora import ADAPTER_LR
from bsm_core.training.proposal.column_kinds import ColumnKind, DescribedColumn, describe_column
from bsm_core.training.proposal.label_classes import FEW_ROWS, STRONG, LabelClasses, label_classes
from bsm_core.training.proposal.leaks import tells_label
from bsm_core.training.proposal.model_choice import FEATURES, TEXT_KEYS, choose_model_class
from bsm_core.training.proposal.sampled_rows import SampledRows, sample_rows
from bsm_core.training.proposal.token_sizes import TokenSizes, folder_of, token_sizes
from bsm_core.training.proposal.toml_text import TomlText

_MOST_TEXTS = max(TEXT_KEYS)
_FEATURES = (ColumnKind.NUMBER, ColumnKind.CATEGORY)
_POOLINGS = ("mean", "cls")
_NEW_ENCODER: Mapping[str, Any] = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
}
"""Encoder with new weights that a CPU trains in minutes."""


@dataclass(frozen=True)
class Proposal:
    """A proposed config.

    Attributes:
        text: The config, as TOML with comments.
        columns: Name of each column, what it holds, and the reason.
    """

    text: str
    columns: list[tuple[str, str, str]]


@dataclass(frozen=True)
class _Schedule:
    """Keys of a training job that depend on the number of rows."""

    batch_size: int
    max_epochs: int
    early_stopping_patience: int
    validation_fraction: float
    warmup_steps: int

    @classmethod
    def of(cls, rows: int, steps: int, most_epochs: int) -> _Schedule:
        """Return a schedule of about ``steps`` training steps."""
        fraction = 0.1 if rows >= 2_000 else 0.2
        batch = 16 if rows < 2_000 else 32 if rows < 10_000 else 64
        per_epoch = max(1, math.ceil(rows * (1 - fraction) / batch))
        epochs = min(most_epochs, max(3, round(steps / per_epoch)))
        return cls(batch, epochs, max(3, epochs // 10), fraction, round(0.05 * epochs * per_epoch))


@dataclass(frozen=True)
class _Judged:
    """Columns and classes from which a proposal is made."""

    data: Path
    label: str
    classes: LabelClasses
    sample: SampledRows
    columns: Sequence[DescribedColumn]
    texts: Sequence[DescribedColumn] = field(default=())

    def of(self, *kinds: ColumnKind) -> list[str]:
        return [column.name for column in self.columns if column.kind in kinds]


def propose(
    data: str | Path,
    label: str,
    *,
    pretrained: str | None = None,
    changes: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Proposal:
    """Return a training config for a table.

    All rows are read once; columns are judged by a random sample of them.

    Args:
        data: Rows with labels: a file or a folder.
        label: Column of the label.
        pretrained: Pretrained encoder with its tokenizer: a folder, or a name in the Hugging Face cache. None: a small
            new one.
        changes: Config keys that replace or extend the proposed ones.
        registry: Registry in which model classes are looked up; the default registry of the process if None.

    Raises:
        UsageError: The pretrained encoder or a change cannot be used, or no model class reads such columns.
        MissingColumnsError: There is no such label column; the error names the nearest.
        DataError: The label has one class or seems to be a quantity, or no column can be used.
    """
    changes = dict(changes or {})
    if pretrained is not None:
        for asset in (ENCODER, TOKENIZER):
            if problem := problem_of(asset, pretrained):
                raise UsageError(problem, where="--pretrained", fix="or leave the flag out, for a small new encoder")
    path = place(data)
    on_bad_line = changes.get("on_bad_line", "fail")
    if on_bad_line not in ("fail", "skip"):
        raise UsageError(f"on_bad_line = {on_bad_line!r} cannot be used", fix="set it to 'fail' or 'skip'")
    sample = sample_rows(path, label, Dialect.of_config(changes), on_bad_line)
    classes = label_classes(sample, label)
    columns = _described(sample, classes)
    found = _Judged(path, label, classes, sample, columns, _texts(columns))
    features = found.of(*_FEATURES)
    if not found.texts and not features:
        raise DataError(
            "no column can be used to tell the label",
            where=str(path),
            details=[f"{column.name}: {column.kind.value}: {column.why}" for column in columns],
            fix="add columns of text, numbers or categories; or write a config by hand, if a column was misjudged",
        )
    name, model_class = choose_model_class(registry or default_registry(), len(found.texts), features=bool(features))
    if pretrained is not None and not found.texts:
        raise UsageError("no column holds text for a pretrained encoder", fix="leave out --pretrained")
    text = _written(found, name, model_class, pretrained, changes)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = f"a value that was set cannot be written as TOML: {error}"
        raise UsageError(what, where="--set", fix="give texts, finite numbers, booleans, or lists of them") from error
    shown = [(c.name, _shown_kind(c, found), "; ".join(filter(None, (c.why, c.hint)))) for c in columns]
    return Proposal(text, [(label, "label", f"{len(classes.labels)} classes"), *shown])


def _described(sample: SampledRows, classes: LabelClasses) -> list[DescribedColumn]:
    """Return what each column holds. A number or category that tells the label is no feature."""
    index = {category_key(str(label)): i for i, label in enumerate(classes.labels)}
    labels = np.array([index[key] for key in sample.label_keys()], np.intp)
    nothing = np.empty(0)
    why = "the table has several columns of this name"
    found = [DescribedColumn(name, ColumnKind.OTHER, why, nothing) for name in sample.repeated]
    for name, column in sample.columns.items():
        one = describe_column(name, column, sample.positions, sample.dialect)
        if one.kind in _FEATURES:
            told = tells_label(one.values, labels, len(classes.labels), ordered=one.kind is ColumnKind.NUMBER)
            one = one.telling(told) if told else one
        found.append(one)
    return found


def _texts(columns: Sequence[DescribedColumn]) -> list[DescribedColumn]:
    """Return the columns of the text fields, the longest first."""
    texts = [column for column in columns if column.kind is ColumnKind.TEXT]
    return sorted(texts, key=lambda column: -column.length)[:_MOST_TEXTS]


def _shown_kind(column: DescribedColumn, found: _Judged) -> str:
    if column.kind is ColumnKind.TEXT and column not in found.texts:
        return "text, not used"
    used = (ColumnKind.TEXT, *_FEATURES)
    return column.kind.value if column.kind in (*used, ColumnKind.OTHER) else f"{column.kind.value}, not used"


def _written(
    found: _Judged, name: str, model_class: type[ModelBase], pretrained: str | None, changes: Mapping[str, Any]
) -> str:
    toml = TomlText(changes)
    rows = found.sample.rows
    toml.note(f"Proposed by `bsm init` for {quoted(found.data.name)}, which has {rows:,} rows with a label.")
    toml.note(f"To train: bsm train --config THIS_FILE --data {found.data.name} --output model")
    toml.note("docs/training.md describes every key.")
    toml.note("")
    toml.add("model_class", name)
    for key, value in (model_class.proposed_config or {}).items():
        toml.add(key, value)
    _write_label(toml, found)
    read = {*keys_of(model_class.Config)}
    # The scripts of the original project know no indicators: the two keys contradict each other.
    _write_columns(toml, found, indicators="feature_count" in read and changes.get("compat") != "original")
    if found.texts:
        folder = folder_of(pretrained) if pretrained else None
        _write_tokens(toml, token_sizes(_sampled_texts(found), rows, folder), pretrained)
        if folder is not None and "pooling" in read:
            _write_pooling(toml, folder)
    _write_training(toml, found, pretrained, lora=changes.get("lora") is not None)
    return toml.text()


def _write_label(toml: TomlText, found: _Judged) -> None:
    classes = found.classes
    toml.note("")
    shares = ", ".join(
        f"{label!r} {100 * count / found.sample.rows:.1f} %"
        for label, count in [*zip(classes.labels, classes.rows, strict=True)][:10]
    )
    toml.note(f"Label. Share of the rows: {shares}{', ...' if len(classes.labels) > 10 else ''}")
    toml.add("label_name", found.label)
    toml.add("num_classes", len(classes.labels))
    toml.add("multiclass_categories", list(classes.labels), "label of each class, in the order of prob_class_0, ...")
    if len(classes.labels) == 2:
        toml.note("For the other order, turn the list around: prob_class_1 is the probability of its second label.")
    if found.sample.unlabeled:
        toml.add("on_missing_label", "skip", f"{found.sample.unlabeled:,} rows have no label")
    about = "the loss counts rare classes more; probabilities are then too high for them"
    toml.leave_out("class_weights", "balanced", about)
    if classes.rarest < STRONG:
        toml.note(f"The rarest class has {100 * classes.rarest:.1f} % of the rows: compare models by AUROC, too.")
    for label, count in zip(classes.labels, classes.rows, strict=True):
        if count < FEW_ROWS:
            toml.note(f"The label {label!r} has {count} row(s): if it is a misspelled one, correct the table first.")


def _write_columns(toml: TomlText, found: _Judged, *, indicators: bool) -> None:
    toml.note("")
    toml.note("Columns")
    for key, text in zip(TEXT_KEYS[len(found.texts)], found.texts, strict=True):
        steps = MINIMAL_CLEANING if key.startswith("secondary") else FULL_CLEANING
        toml.add(key, text.name, text.why)
        toml.add(key.replace("name", "processing_steps"), list(steps))
    _write_features(toml, found, indicators=indicators)
    ids = [column for column in found.columns if column.unique][:1]
    if ids:
        toml.add("id_name", ids[0].name, f"column of the id for bsm run --id-field; {ids[0].why}")
    else:
        toml.note(
            "No column has another value in each row. `bsm run` writes the column of --id-field beside the scores,"
        )
        toml.note("one row for each row, in their order: name any column, or add one that tells the rows apart.")
    used = {text.name for text in found.texts} | {*found.of(*_FEATURES)}
    unused = [column for column in found.columns if column.name not in used and column not in ids]
    if unused:
        toml.note("Not read by the model:")
    for column in unused:
        what = "a further text; join texts into one column to use it" if column.kind is ColumnKind.TEXT else column.why
        toml.note(f"  {quoted(column.name)} ({column.kind.value}): {what}")
    if found.of(ColumnKind.LEAK):
        toml.note(f"A column that tells the label can be added to {FEATURES} if it is known when a row is scored.")


def _write_features(toml: TomlText, found: _Judged, *, indicators: bool) -> None:
    features = [column for column in found.columns if column.kind in _FEATURES]
    if not features:
        return
    toml.add(FEATURES, [column.name for column in features])
    toml.add("cat_field_list", found.of(ColumnKind.CATEGORY), "features that are categories")
    for column in features:
        if column.hint:
            toml.note(f"  {quoted(column.name)}: {column.hint}")
    if indicators and any(column.missing for column in features):
        toml.add("missing_indicators", True, "numbers are missing: an input of the model says where")


def _sampled_texts(found: _Judged) -> list[list[str]]:
    return [text_values(found.sample.columns[text.name])[0] for text in found.texts]


def _write_tokens(toml: TomlText, sizes: TokenSizes, pretrained: str | None) -> None:
    toml.note("")
    toml.note(f"Text. 95 % of the texts have at most {sizes.tokens:,} tokens.")
    toml.add("max_sen_len", sizes.max_sen_len, "tokens of a chunk")
    toml.add("max_total_chunks", sizes.max_total_chunks, "chunks of a text")
    toml.add("chunk_trancate", True, "leave out further chunks")
    if sizes.vocab_size:
        toml.add("vocab_size", sizes.vocab_size, "of the tokenizer, which is fitted to the texts")
    if pretrained is not None:
        toml.add("text_encoder", pretrained)
        toml.add("tokenizer", pretrained)
    else:
        about = "a small encoder with new weights; a pretrained one learns more from few rows: --pretrained"
        toml.add("text_encoder", {**_NEW_ENCODER, "max_position_embeddings": sizes.max_sen_len}, about)


def _write_pooling(toml: TomlText, folder: Path) -> None:
    """Write how the encoder was trained to pool, if its folder says so."""
    trained = trained_pooling(folder)
    if trained in _POOLINGS:
        toml.add("pooling", trained, "as the encoder was trained")
    elif trained is not None:
        toml.note(f"The encoder was trained with the pooling {trained!r}, which bsm does not have.")


def _write_training(toml: TomlText, found: _Judged, pretrained: str | None, *, lora: bool) -> None:
    rows = found.sample.rows
    if pretrained is not None:
        encoder_lr = ADAPTER_LR if lora else 5e-5
        schedule, keys = _Schedule.of(rows, 1_000, 5), {"lr": 1e-3, "encoder_lr": encoder_lr, "weight_decay": 0.01}
    elif found.texts:
        schedule, keys = _Schedule.of(rows, 1_000, 20), {"lr": 2e-3, "weight_decay": 0.05}
    else:
        schedule, keys = _Schedule.of(rows, 1_000, 40), {"lr": 5e-3, "weight_decay": 0.01}
    toml.note("")
    toml.note("Training")
    for key, value in {**vars(schedule), **keys}.items():
        toml.add(key, value)
