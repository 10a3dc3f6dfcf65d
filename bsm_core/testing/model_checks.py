"""Checks of a model class."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from torch import Tensor, nn

from bsm_core.errors import ConfigError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.models.model_config import ModelConfig
from bsm_core.plugins.discovery import Component
from bsm_core.predictor import Predictor
from bsm_core.testing.checks import Check, CheckFailedError, Checks, CheckSkippedError, ClassSubject, Result
from bsm_core.testing.elsewhere import elsewhere
from bsm_core.testing.model_probes import Exportable, opened, weights_made
from bsm_core.testing.toys import CONFIG, ROWS, VOCABULARY, toy_artifact, toy_registry

CHECKS = Checks()
TOLERANCE = 1e-6
"""Largest allowed difference of a probability where only the other rows of the batch differ."""
BF16_TOLERANCE = 0.1
"""Largest allowed difference of a probability in bfloat16."""
_TEXTS = ("text_name", "primary_text_name", "secondary_text_name")
_BAD_VALUES: tuple[Any, ...] = ("\0", -1, {"?": 1}, [None])
_MOST_STEPS = 400


class ModelSubject(ClassSubject[ModelBase]):
    """A model class, built from the kit's config and its own :attr:`~bsm_core.ModelBase.example_config`."""

    checks = CHECKS
    base = ModelBase

    def _run(self, check: Check) -> Result:
        with isolate_rng():  # checks seed the global generators, and models draw from them
            return super()._run(check)

    @property
    def config(self) -> dict[str, Any]:
        """Config that the model is built from."""
        return {**CONFIG, "num_classes": 3, "run_scheduler": False, **self.cls.example_config}

    def build(self) -> ModelBase:
        """Return the model in evaluation mode, with the same weights every time."""
        torch.manual_seed(0)
        return self.cls.from_config(self.config).eval()

    def vivid(self) -> ModelBase:
        """Return the model with weights so large that the probabilities of rows differ clearly."""
        model = self.build()
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4, generator=generator)
        return model

    def batch(self, rows: Sequence[int], *, length: int | None = None, empty: Sequence[int] = ()) -> Batch:
        """Return a batch of some of eight rows.

        Args:
            rows: Numbers of the rows, 0 to 7.
            length: Number of tokens of every chunk; None for lengths that differ.
            empty: Rows without chunks.
        """
        texts, config = {}, self.config
        for seed, column in enumerate(dict.fromkeys(config[key] for key in _TEXTS if config.get(key))):
            chunks = self._chunks(seed, length)
            texts[column] = TextBatch.from_rows([[] if row in empty else chunks[row] for row in rows])
        values = torch.randn(8, len(config["tab_field_list"]), generator=torch.Generator().manual_seed(2))
        return Batch(len(rows), texts, values[list(rows)], torch.tensor(rows) % self.classes)

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return self.build().config.num_classes

    def _chunks(self, seed: int, length: int | None) -> list[list[list[int]]]:
        """Return eight rows of 1 to 3 chunks of 1 to 16 tokens, or fewer where ``max_sen_len`` is smaller."""
        rng, most = Random(seed), min(16, self.config["max_sen_len"])
        tokens = min(VOCABULARY, self.config["vocab_size"], self.config["embedding_shape"][0])

        def chunk() -> list[int]:
            return rng.choices(range(1, tokens), k=min(length, most) if length else rng.randint(1, most))

        return [[chunk() for _ in range(rng.randint(1, 3))] for _ in range(8)]


def predict(model: ModelBase, batch: Batch) -> Tensor:
    """Return the model's probabilities, float64 ``[rows, classes]``."""
    with torch.inference_mode():
        return model.predict_step(batch)


def same(got: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Fail the check where probabilities differ by more than the tolerance."""
    off = float((got - expected).abs().max())
    if not off <= tolerance:
        raise CheckFailedError(f"probabilities differ by {off:.3g} (tolerance {tolerance:g})")


@CHECKS.add(
    "let Config list every key that the class reads; where the kit's config (bsm_core.testing.toys.CONFIG) lacks one, "
    "set `example_config` on the class",
    gate=True,
)
def is_built_from_config(subject: ModelSubject) -> None:
    """The model is built from a config alone, and twice the same from one seed of torch."""
    first, second = subject.build(), subject.build()
    if not isinstance(first, ModelBase):
        raise CheckFailedError(f"from_config returns a {type(first).__name__}")
    one, other = first.state_dict(), second.state_dict()
    if one.keys() != other.keys() or not all(torch.equal(value, other[key]) for key, value in one.items()):
        raise CheckFailedError("two models of one config and seed differ")


@CHECKS.add("annotate the keys of Config so that it refuses a wrong value: PositiveInt, Literal, a validator")
def refuses_a_bad_config_before_weights(subject: ModelSubject) -> None:
    """A missing or wrong config key raises a ConfigError that names the key, before any weight is made."""
    own = {k: f for k, f in subject.cls.Config.model_fields.items() if k not in ModelConfig.model_fields}
    cases = [(k, "missing", _without(subject.config, k, f)) for k, f in own.items() if f.is_required()]
    cases += [(key, repr(bad), {**subject.config, key: bad}) for key in own for bad in _BAD_VALUES]
    cases += [("num_classes", "0", {**subject.config, "num_classes": 0, "is_binary": False})]
    for key, what, config in cases:
        with weights_made() as made:
            problem = "it is accepted" if what in ("missing", "0") else ""
            try:
                subject.cls.from_config(config)
            except ConfigError as error:
                late = f"it is refused after {len(made)} weight(s) were made" if made else ""
                problem = late if key in str(error) else f"the error does not name it: {error.one_line()}"
            except Exception as error:  # noqa: BLE001 - a plugin may raise any error
                problem = f"{type(error).__name__}: {error}"
        if problem:
            raise CheckFailedError(f"config key {key!r}, {what}: {problem}")


def _without(config: Mapping[str, Any], key: str, field: FieldInfo) -> dict[str, Any]:
    """Return the config without a key and its aliases."""
    alias = field.validation_alias
    names = {key, *(alias.choices if isinstance(alias, AliasChoices) else [alias])}
    return {name: value for name, value in config.items() if name not in names}


@CHECKS.add("build the model from its config alone; store other data in the artifact's config or weights")
def needs_neither_files_nor_network(subject: ModelSubject) -> None:
    """Building the model opens neither files nor sockets."""
    events = opened(subject.component, subject.config, subject.cls)
    if not events and subject.importable:  # in a new process nothing was read and cached before
        events = elsewhere(opened, subject.component, subject.config)
    if events:
        raise CheckFailedError("; ".join(list(dict.fromkeys(events))[:5]))


@CHECKS.add("return [rows, num_classes] for one row as well: squeeze() removes the dimension of a single row")
def takes_any_number_of_rows(subject: ModelSubject) -> None:
    """Batches of one, two and seven rows return probabilities ``[rows, num_classes]``."""
    model = subject.build()
    for rows in (1, 2, 7):
        shape = tuple(predict(model, subject.batch(range(rows))).shape)
        if shape != (rows, subject.classes):
            raise CheckFailedError(f"{rows} row(s) return {shape}, not {(rows, subject.classes)}")


@CHECKS.add("return logits from forward, and do not override predict_step, which turns them into probabilities")
def gives_probabilities(subject: ModelSubject) -> None:
    """Probabilities are finite, between 0 and 1, and sum to one."""
    got = predict(subject.vivid(), subject.batch(range(8)))
    if not bool(got.isfinite().all()):
        raise CheckFailedError("some probabilities are not finite")
    if float(got.min()) < 0 or float((got.sum(dim=1) - 1).abs().max()) > TOLERANCE:
        raise CheckFailedError(
            f"they range from {float(got.min()):.3g} to {float(got.max()):.3g}, and sum to {float(got[0].sum()):.6g}"
        )


@CHECKS.add("do not use the position of a row in the batch")
def does_not_depend_on_row_order(subject: ModelSubject) -> None:
    """A row has the same probabilities at every position of the batch."""
    model, order = subject.vivid(), [1, 0, 3, 2, 5, 4, 7, 6]
    same(predict(model, subject.batch(order, length=7)), predict(model, subject.batch(range(8), length=7))[order])


@CHECKS.add("compute nothing over rows: no mean of the batch, no batch normalization in training mode")
def does_not_depend_on_the_batch(subject: ModelSubject) -> None:
    """A row has the same probabilities whatever other rows are in its batch."""
    model = subject.vivid()
    halves = [predict(model, subject.batch(rows, length=7)) for rows in (range(4), range(4, 8))]
    same(torch.cat(halves), predict(model, subject.batch(range(8), length=7)))


@CHECKS.add("use the attention mask in every sum, mean and attention over tokens; or pad to a fixed `length`")
def does_not_depend_on_padding(subject: ModelSubject) -> None:
    """A row has the same probabilities for every padding of its chunks and every size of a micro-batch."""
    model, batch = subject.vivid(), subject.batch(range(8))
    model.token_budget.tokens = 1
    singly = predict(model, batch)
    model.token_budget.tokens = 10_000
    same(predict(model, batch), singly)
    # Each row in a batch of copies of itself, which pads its chunks least, at its own position.
    same(torch.cat([predict(model, subject.batch([row] * 8))[row : row + 1] for row in range(8)]), singly)


@CHECKS.add("read batch.labels in training_step alone")
def predicts_without_labels(subject: ModelSubject) -> None:
    """Prediction needs no labels, and does not depend on them."""
    model, batch = subject.vivid(), subject.batch(range(8))
    with_labels = predict(model, batch)
    same(predict(model, Batch(batch.rows, batch.texts, batch.features)), with_labels)


@CHECKS.add("accept rows without a chunk: encode_rows returns zeros for them")
def takes_rows_without_text(subject: ModelSubject) -> None:
    """Rows without a chunk are scored, and do not change the probabilities of other rows."""
    model = subject.vivid()
    got = predict(model, subject.batch(range(8), length=7, empty=(0, 2)))
    if not bool(got.isfinite().all()):
        raise CheckFailedError("a row without a chunk has probabilities that are not finite")
    others = [1, 3, 4, 5, 6, 7]
    same(got[others], predict(model, subject.batch(range(8), length=7))[others])


@CHECKS.add("store everything that a prediction depends on in the config, in parameters, or in registered buffers")
def comes_back_from_an_artifact(subject: ModelSubject) -> None:
    """Saved as an artifact and loaded in another process, from data alone, the model returns the same scores."""
    subject.require_importable()
    component, model = subject.component, subject.vivid()
    with tempfile.TemporaryDirectory() as folder:
        config = {**subject.cls.example_config, "num_classes": subject.classes}
        name = f"{component.provider.distribution}/{component.name}"
        artifact = toy_artifact(Path(folder), model, **config, model_class=name)
        same(elsewhere(scores_of, component, artifact), scores_of(component, artifact, model))


def scores_of(component: Component, artifact: Path, model: ModelBase | None = None) -> Tensor:
    """Return the probabilities of some rows by an artifact, or by ``model`` in its place; float64 ``[rows, classes]``.

    The rows have the columns that the artifact reads.
    """
    predictor = Predictor.open(artifact, registry=toy_registry(component))
    if model is not None:
        predictor.model = model
    texts = {field.column for field in predictor.preprocessor.config.text_fields}
    columns = predictor.preprocessor.wanted
    rows = pa.table({name: list(ROWS.get(name, ROWS["text" if name in texts else "a"])) for name in columns})
    return torch.tensor(predictor.predict(rows).to_numpy())


@CHECKS.add("use every parameter; call requires_grad_(False) on parameters that exist only because artifacts have them")
def trains_every_parameter(subject: ModelSubject) -> None:
    """Every parameter with ``requires_grad`` gets a gradient."""
    model, batch = subject.build().train(), subject.batch(range(8))
    for _ in range(4):  # a class may skip layers at random in training
        _loss(model, batch).backward()  # type: ignore[no-untyped-call]
    learning = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    if without := [name for name, gradient in learning.items() if gradient is None]:
        raise CheckFailedError(f"no gradient: {', '.join(without)}")
    if not any(bool(gradient.any()) for gradient in learning.values() if gradient is not None):
        raise CheckFailedError("all gradients are zero")


@CHECKS.add("assume nothing about the number of rows of a training batch; a batch has two rows or more")
def trains_on_any_number_of_rows(subject: ModelSubject) -> None:
    """Training steps work on batches of two, three, four and seven rows; ``bsm train`` makes no batch of one row."""
    model = subject.build().train()
    for rows in (2, 3, 4, 7):
        try:
            _loss(model, subject.batch(range(rows))).backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            raise CheckFailedError(f"{rows} rows: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"


@CHECKS.add("let gradients reach the weights, and let forward return different logits for different rows")
def overfits_eight_rows(subject: ModelSubject) -> None:
    """Trained on eight rows, the model predicts their labels."""
    model, batch = subject.build(), subject.batch(range(8))  # in evaluation mode, without dropout
    labels = torch.arange(8) % subject.classes
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(_MOST_STEPS):
        optimizer.zero_grad()
        _loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        right = int((predict(model, batch).argmax(dim=1) == labels).sum())
        if right == batch.rows:
            return
    raise CheckFailedError(f"after {_MOST_STEPS} steps it predicts the labels of {right} of 8 rows")


def _loss(model: ModelBase, batch: Batch) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*self.log")  # there is no Trainer that could log
        return model.training_step(batch)


@CHECKS.add(
    "return one vector [rows, size] for each row, name texts by their columns, and let the methods fuse_rows and "
    "classify_rows depend on their arguments alone: keep nothing of a batch on the model"
)
def runs_its_parts_again(subject: ModelSubject) -> None:
    """Vectors of some rows, fused and classified again, return the scores of these rows, as ``forward`` does."""
    if why := subject.cls.why_no_embeddings():
        raise CheckSkippedError(f"the class has no embeddings: {why}")
    model, batch = subject.vivid(), subject.batch(range(8), length=7)
    rows = [6, 1, 3]
    with torch.inference_mode():
        expected = model(batch)[rows].double().softmax(dim=-1)
        texts = model.encode_texts(batch)
        if unknown := texts.keys() - batch.texts.keys():
            raise CheckFailedError(f"encode_texts names {sorted(unknown)}, the columns are {sorted(batch.texts)}")
        vectors = {**texts, "fuse_rows": model.fuse_rows(texts, batch.features)}
        for name, found in vectors.items():
            if found.ndim != 2 or len(found) != batch.rows:
                raise CheckFailedError(f"vectors of {name!r} are {list(found.shape)}, not [8, size]")
        fused = model.fuse_rows({column: found[rows] for column, found in texts.items()}, batch.features[rows])
        same(model.classify_rows(fused).double().softmax(dim=-1), expected)


@CHECKS.add(
    "convert the float32 tensors (features, the result of encode_rows) to the dtype of the weights", level="SHOULD"
)
def runs_in_bf16(subject: ModelSubject) -> None:
    """In bfloat16 the model returns nearly the probabilities of float32."""
    model, batch = subject.vivid(), subject.batch(range(8))
    expected = predict(model, batch)
    same(predict(model.bfloat16(), batch), expected, BF16_TOLERANCE)


@CHECKS.add("let the control flow of forward not depend on values: no item(), no if on a tensor", level="SHOULD")
def can_be_exported(subject: ModelSubject) -> None:
    """``torch.export`` exports forward for the chunks of a batch, and the result returns the same logits."""
    model, batch = subject.vivid(), subject.batch(range(4))
    module = Exportable(model, batch)
    inputs = ({column: text.tokens for column, text in batch.texts.items()}, batch.features)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # torch warns about its own LSTM
        exported = torch.export.export(module, inputs, strict=False).module()
        same(exported(*inputs), module(*inputs), 1e-5)


def second_device() -> str | None:
    """Return the name of a GPU device; None where there is no GPU."""
    return "cuda" if torch.cuda.is_available() else None


@CHECKS.add("create new tensors on the device of the inputs, and register stored tensors as buffers", level="SHOULD")
def runs_on_two_devices(subject: ModelSubject) -> None:
    """On a GPU the model returns the probabilities of the CPU."""
    device = second_device()
    if device is None:
        raise CheckSkippedError("there is no GPU here")
    model, batch = subject.vivid(), subject.batch(range(8))
    expected = predict(model, batch)
    model.to(device)
    same(predict(model, batch.to(device)).cpu(), expected, 1e-3)  # the precision of TF32
