"""A model class under test: the models and batches that checks look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.testing.checks import Check, CheckFailedError, ClassSubject, Result
from bsm_core.testing.toys import CONFIG, VOCABULARY

TOLERANCE = 1e-6
"""How far off a probability may be where nothing but the neighbours differs."""
_TEXTS = ("text_name", "primary_text_name", "secondary_text_name")


class ModelSubject(ClassSubject[ModelBase]):
    """A model class, built from the kit's config and its own :attr:`~bsm_core.ModelBase.example_config`."""

    checks: ClassVar[Sequence[Check]]

    @property
    def name(self) -> tuple[str, str] | None:
        """Module and name of the class; None where another process could not find it."""
        cls = self.cls
        return None if cls.__module__ == "__main__" or "." in cls.__qualname__ else (cls.__module__, cls.__name__)

    def _run(self, check: Check) -> Result:
        with isolate_rng():  # the checks seed, and models draw
            return super()._run(check)

    @property
    def config(self) -> dict[str, Any]:
        """What it is built from."""
        return {**CONFIG, "num_classes": 3, "run_scheduler": False, **self.cls.example_config}

    def build(self, **config: Any) -> ModelBase:
        """The model in evaluation mode, with the same weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.cls.from_config({**self.config, **config}).eval()

    def vivid(self) -> ModelBase:
        """The model with weights so large that rows are told apart."""
        model = self.build()
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4, generator=generator)
        return model

    def batch(self, rows: Sequence[int], *, length: int | None = None, empty: Sequence[int] = ()) -> Batch:
        """Some of eight rows; their chunks are of ``length`` tokens, where it is given; ``empty`` rows have none."""
        texts, config = {}, self.config
        for seed, column in enumerate(dict.fromkeys(config[key] for key in _TEXTS if config.get(key))):
            chunks = self._chunks(seed, length)
            texts[column] = TextBatch.from_rows([[] if row in empty else chunks[row] for row in rows])
        values = torch.randn(8, len(config["tab_field_list"]), generator=torch.Generator().manual_seed(2))
        return Batch(len(rows), texts, values[list(rows)], torch.tensor(rows) % self.classes)

    @cached_property
    def classes(self) -> int:
        """The number of classes."""
        return self.build().config.num_classes

    def _chunks(self, seed: int, length: int | None) -> list[list[list[int]]]:
        """Eight rows of one to three chunks of one to sixteen tokens, or as many as the config has room for."""
        generator, most = torch.Generator().manual_seed(seed), min(16, self.config["max_sen_len"])
        tokens = min(VOCABULARY, self.config["vocab_size"], self.config["embedding_shape"][0])

        def below(high: int) -> int:
            return int(torch.randint(high, (1,), generator=generator))

        def chunk() -> list[int]:
            return [1 + below(tokens - 1) for _ in range(min(length, most) if length else 1 + below(most))]

        return [[chunk() for _ in range(1 + below(3))] for _ in range(8)]


def predict(model: ModelBase, batch: Batch) -> Tensor:
    """The model's probabilities, float64 ``[rows, classes]``."""
    with torch.inference_mode():
        return model.predict_step(batch)


def same(got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    """Fail where probabilities differ."""
    off = float((got - wanted).abs().max())
    if not off <= tolerance:
        raise CheckFailedError(f"probabilities differ by {off:.3g} (tolerance {tolerance:g})")
