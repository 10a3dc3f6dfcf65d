"""What a model class must do."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from torch import Tensor, nn

from bsm_core.artifact import Artifact
from bsm_core.errors import ConfigError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.models.model_config import ModelConfig
from bsm_core.predictor import Predictor
from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError
from bsm_core.testing.elsewhere import ElsewhereError, elsewhere
from bsm_core.testing.model_subject import TOLERANCE, predict, same
from bsm_core.testing.model_subject import ModelSubject as ModelSubject
from bsm_core.testing.toys import ROWS, isolated_registry, toy_artifact

CHECKS = Checks()
ModelSubject.checks = CHECKS
BF16_TOLERANCE = 0.1
_BAD_VALUES: tuple[Any, ...] = ("\0", -1, {"?": 1}, [None])
_MOST_STEPS = 400


@CHECKS.add(
    "let Config list every key that the class reads; where the kit's config (bsm_core.testing.toys.CONFIG) lacks one, "
    "set `example_config` on the class",
    gate=True,
)
def is_built_from_config(subject: ModelSubject) -> None:
    """The model is built from a config alone, and from one seed of torch twice the same."""
    first, second = subject.build(), subject.build()
    if not isinstance(first, ModelBase):
        raise CheckFailedError(f"from_config gives a {type(first).__name__}")
    one, other = first.state_dict(), second.state_dict()
    if one.keys() != other.keys() or not all(torch.equal(value, other[key]) for key, value in one.items()):
        raise CheckFailedError("two models of one config and seed differ")


@CHECKS.add("annotate the keys of Config so that a wrong value is refused there: PositiveInt, Literal, a validator")
def refuses_a_bad_config_before_weights(subject: ModelSubject) -> None:
    """A missing or wrong config key is a ConfigError that names the key, before any weight is made."""
    own = {k: f for k, f in subject.cls.Config.model_fields.items() if k not in ModelConfig.model_fields}
    cases = [
        (key, "missing", _without(subject.config, key, field)) for key, field in own.items() if field.is_required()
    ]
    cases += [(key, repr(bad), {**subject.config, key: bad}) for key in own for bad in _BAD_VALUES]
    cases += [("num_classes", "0", {**subject.config, "num_classes": 0, "is_binary": False})]
    for key, what, config in cases:
        with _weights_made() as made:
            try:
                subject.cls.from_config(config)
            except ConfigError as error:
                problem = "" if key in str(error) else f"the error does not name it: {error.one_line()}"
                problem = problem or (f"it is refused when {len(made)} weight(s) are made" if made else "")
            except Exception as error:  # noqa: BLE001 - a stranger's class may fail in any way
                problem = f"{type(error).__name__}: {error}"
            else:
                problem = "it is accepted" if what in ("missing", "0") else ""
        if problem:
            raise CheckFailedError(f"config key {key!r}, {what}: {problem}")


def _without(config: Mapping[str, Any], key: str, field: FieldInfo) -> dict[str, Any]:
    """The config less a key, by all its names."""
    alias = field.validation_alias
    names = {key, *(alias.choices if isinstance(alias, AliasChoices) else [alias])}
    return {name: value for name, value in config.items() if name not in names}


@contextmanager
def _weights_made() -> Iterator[list[str]]:
    """The parameters that are made meanwhile; on the meta device they have no numbers, and do not count."""
    made: list[str] = []

    def note(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if parameter is not None and parameter.device.type != "meta":
            made.append(f"{type(module).__name__}.{name}")

    handle = nn.modules.module.register_module_parameter_registration_hook(note)
    try:
        yield made
    finally:
        handle.remove()


@CHECKS.add(
    "build the model from its config alone; what it needs from files belongs into the artifact's config or weights"
)
def needs_neither_files_nor_network(subject: ModelSubject) -> None:
    """Building the model opens neither files nor sockets."""
    events = opened(subject.cls, subject.config)
    if not events and subject.name:  # where it is built for the first time: nothing has been read and kept
        events = elsewhere(opened_by_first, *subject.name, subject.config)
    if events:
        raise CheckFailedError("; ".join(list(dict.fromkeys(events))[:5]))


def opened(cls: type[ModelBase], config: Mapping[str, Any]) -> list[str]:
    """What building a model opens, less what is imported."""
    events: list[str] = []
    _watch(events)
    try:
        cls.from_config(config)
    finally:
        _watch(None)
    return events


def opened_by_first(module: str, name: str, config: Mapping[str, Any]) -> list[str]:
    """The same of the first model in this process."""
    return opened(getattr(importlib.import_module(module), name), config)


_listener: list[str] | None = None
_hooked = False


def _watch(events: list[str] | None) -> None:
    """Note the interpreter's events in a list, or no longer; an audit hook cannot be taken away again."""
    global _listener, _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    _listener = events


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _listener is None or event not in ("open", "socket.__new__", "socket.connect", "socket.getaddrinfo"):
        return
    if event != "open" or not _is_import(str(arguments[0])):
        _listener.append(f"{event} {ascii(arguments[0])[:80]}")


def _is_import(path: str) -> bool:
    """Whether a file is opened by an import, or in search of what is installed."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "importlib" in frame.f_code.co_filename:
            return True
    return path.endswith((".py", ".pyc", ".so"))


@CHECKS.add("give [rows, num_classes] for one row too: squeeze() takes away more than it should")
def takes_any_number_of_rows(subject: ModelSubject) -> None:
    """Batches of one, of two and of seven rows give probabilities ``[rows, num_classes]``."""
    model = subject.build()
    for rows in (1, 2, 7):
        shape = tuple(predict(model, subject.batch(range(rows))).shape)
        if shape != (rows, subject.classes):
            raise CheckFailedError(f"{rows} row(s) give {shape}, not {(rows, subject.classes)}")


@CHECKS.add("give logits from forward, and leave predict_step, which makes probabilities of them, to the base class")
def gives_probabilities(subject: ModelSubject) -> None:
    """Probabilities are finite, between 0 and 1, and sum to one."""
    got = predict(subject.vivid(), subject.batch(range(8)))
    if not bool(got.isfinite().all()):
        raise CheckFailedError("some are not finite")
    if float(got.min()) < 0 or float((got.sum(dim=1) - 1).abs().max()) > TOLERANCE:
        raise CheckFailedError(
            f"they range from {float(got.min()):.3g} to {float(got.max()):.3g}, and sum to {float(got[0].sum()):.6g}"
        )


@CHECKS.add("do not use a row's position")
def does_not_depend_on_row_order(subject: ModelSubject) -> None:
    """A row has the same probabilities wherever it stands in the batch."""
    model, order = subject.vivid(), [1, 0, 3, 2, 5, 4, 7, 6]
    same(predict(model, subject.batch(order, length=7)), predict(model, subject.batch(range(8), length=7))[order])


@CHECKS.add("compute nothing over rows: no mean of the batch, no batch norm that learns while it predicts")
def does_not_depend_on_the_batch(subject: ModelSubject) -> None:
    """A row has the same probabilities whatever other rows are in its batch."""
    model = subject.vivid()
    parts = [predict(model, subject.batch(rows, length=7)) for rows in (range(4), range(4, 8))]
    same(torch.cat(parts), predict(model, subject.batch(range(8), length=7)))


@CHECKS.add("use the attention mask wherever tokens are summed, averaged or attended to; or pad to a fixed `length`")
def does_not_depend_on_padding(subject: ModelSubject) -> None:
    """A row has the same probabilities however far its chunks are padded, and however many are encoded at once."""
    model, batch = subject.vivid(), subject.batch(range(8))
    model.token_budget.tokens = 1
    singly = predict(model, batch)
    model.token_budget.tokens = 10_000
    same(predict(model, batch), singly)
    # Each among its like, which pad it no further, in its place.
    same(torch.cat([predict(model, subject.batch([row] * 8))[row : row + 1] for row in range(8)]), singly)


@CHECKS.add("read batch.labels in training_step alone")
def predicts_without_labels(subject: ModelSubject) -> None:
    """Prediction needs no labels, and does not look at them."""
    model, batch = subject.vivid(), subject.batch(range(8))
    with_labels = predict(model, batch)
    same(predict(model, Batch(batch.rows, batch.texts, batch.features)), with_labels)


@CHECKS.add("expect rows without a chunk: encode_rows gives zeros for them")
def takes_rows_without_text(subject: ModelSubject) -> None:
    """Rows without a chunk are scored, and their neighbours as ever."""
    model = subject.vivid()
    got = predict(model, subject.batch(range(8), length=7, empty=(0, 2)))
    if not bool(got.isfinite().all()):
        raise CheckFailedError("a row without a chunk has probabilities that are no numbers")
    others = [1, 3, 4, 5, 6, 7]
    same(got[others], predict(model, subject.batch(range(8), length=7))[others])


@CHECKS.add("keep everything that a prediction depends on in the config, in parameters, or in registered buffers")
def comes_back_from_an_artifact(subject: ModelSubject) -> None:
    """Saved as an artifact and loaded in a new process, strictly and as data alone, it scores the same."""
    if subject.name is None:
        raise CheckSkippedError(
            f"{subject.cls.__qualname__} is defined where no other process finds it: put it at the top of a module"
        )
    cls = subject.cls
    model = subject.vivid()
    with tempfile.TemporaryDirectory() as folder, isolated_registry(model_classes={"toy": cls}):
        artifact = toy_artifact(
            Path(folder), model, **{**subject.cls.example_config, "num_classes": subject.classes}, model_class="toy"
        )
        predictor = Predictor.load(Artifact.load(artifact))
        predictor.model = model
        here = predictor.predict(_rows(predictor))
        try:
            there = elsewhere(scores_of, *subject.name, str(artifact))
        except ElsewhereError as error:
            raise CheckFailedError(str(error)) from error
    same(torch.tensor(there, dtype=torch.float64), torch.tensor(here.to_numpy()))


def scores_of(module: str, name: str, artifact: str) -> list[list[float]]:
    """The probabilities of some rows by an artifact, in this process."""
    with isolated_registry(model_classes={"toy": f"{module}:{name}"}):
        predictor = Predictor.load(Artifact.load(Path(artifact)))
        frame = predictor.predict(_rows(predictor))
    scores: list[list[float]] = json.loads(json.dumps(frame.to_numpy().tolist()))
    return scores


def _rows(predictor: Predictor) -> pa.Table:
    """Rows of the columns that an artifact reads."""
    texts = {field.column for field in predictor.preprocessor.config.text_fields}
    columns = predictor.preprocessor.wanted
    return pa.table({name: list(ROWS.get(name, ROWS["text" if name in texts else "a"])) for name in columns})


@CHECKS.add("use every parameter; call requires_grad_(False) on those that are there only because artifacts hold them")
def trains_every_parameter(subject: ModelSubject) -> None:
    """Every parameter that asks for a gradient gets one."""
    model, batch = subject.build().train(), subject.batch(range(8))
    for _ in range(4):  # a class may leave parts out at random while it trains
        _loss(model, batch).backward()  # type: ignore[no-untyped-call]
    learning = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    if without := [name for name, gradient in learning.items() if gradient is None]:
        raise CheckFailedError(f"no gradient: {', '.join(without)}")
    if not any(bool(gradient.any()) for gradient in learning.values() if gradient is not None):
        raise CheckFailedError("all gradients are zero")


@CHECKS.add("see that gradients reach the weights, and that forward tells rows apart")
def overfits_eight_rows(subject: ModelSubject) -> None:
    """Trained on eight rows, it predicts their labels."""
    model, batch = subject.build(), subject.batch(range(8))  # in evaluation mode: dropout would be in the way
    labels = torch.tensor([row % subject.classes for row in range(8)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    right = 0
    for _ in range(_MOST_STEPS):
        optimizer.zero_grad()
        _loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        right = int((predict(model, batch).argmax(dim=1) == labels).sum())
        if right == len(labels):
            return
    raise CheckFailedError(f"after {_MOST_STEPS} steps it gives {right} of 8 rows their label")


def _loss(model: ModelBase, batch: Batch) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*self.log")  # there is no Trainer to log to
        return model.training_step(batch)


@CHECKS.add(
    "bring what comes as float32 (features, encode_rows) into the dtype of the weights it meets", level="SHOULD"
)
def runs_in_bf16(subject: ModelSubject) -> None:
    """In bfloat16 it gives about the probabilities of float32."""
    model, batch = subject.vivid(), subject.batch(range(8))
    wanted = predict(model, batch)
    same(predict(model.bfloat16(), batch), wanted, BF16_TOLERANCE)


@CHECKS.add("let forward take the same path whatever the numbers are: no item(), no if on a tensor", level="SHOULD")
def can_be_exported(subject: ModelSubject) -> None:
    """``torch.export`` takes forward for the chunks of a batch, and what it makes gives the same logits."""
    model, batch = subject.vivid(), subject.batch(range(4))
    module = _Exportable(model, batch)
    inputs = ({column: text.tokens for column, text in batch.texts.items()}, batch.features)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch makes of its own LSTM
        exported = torch.export.export(module, inputs, strict=False).module()
        same(exported(*inputs), module(*inputs), 1e-5)


class _Sized(TextBatch):
    """Chunks whose lengths are numbers to the tracer, and not what it has to compute."""

    sizes: Sequence[int]

    @classmethod
    def of(cls, text: TextBatch, tokens: Tensor, sizes: Sequence[int]) -> _Sized:
        made = cls(tokens, text.chunk_offsets, text.chunk_ids, text.row_lengths)
        object.__setattr__(made, "sizes", sizes)
        return made

    def length(self, chunk: int) -> int:
        return self.sizes[chunk]


class _Exportable(nn.Module):
    """Forward as a function of tensors alone: of the tokens and the features of a batch."""

    def __init__(self, model: ModelBase, batch: Batch) -> None:
        super().__init__()
        self.model, self.batch = model, batch
        self.sizes = {column: text.chunk_offsets.diff().tolist() for column, text in batch.texts.items()}

    def forward(self, tokens: Mapping[str, Tensor], features: Tensor) -> Tensor:
        texts: dict[str, TextBatch] = {
            column: _Sized.of(text, tokens[column], self.sizes[column]) for column, text in self.batch.texts.items()
        }
        logits: Tensor = self.model(Batch(self.batch.rows, texts, features))
        return logits


def second_device() -> str | None:
    """A device that is not the CPU, where there is one."""
    return "cuda" if torch.cuda.is_available() else None


@CHECKS.add(
    "make new tensors on the device of those that they meet, and register what is kept as a buffer", level="SHOULD"
)
def runs_on_two_devices(subject: ModelSubject) -> None:
    """On a GPU it gives the probabilities of the CPU."""
    device = second_device()
    if device is None:
        raise CheckSkippedError("there is no GPU here")
    model, batch = subject.vivid(), subject.batch(range(8))
    wanted = predict(model, batch)
    model.to(device)
    same(predict(model, batch.to(device)).cpu(), wanted, 1e-3)  # as TF32 has it
