"""A config, a table and a batch for tests of what turns windows into batches."""

from __future__ import annotations

from pathlib import Path

from bsm_core import ArtifactConfig, Batch
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.runtime.profile import Times
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Window

CONFIG = ArtifactConfig.from_mapping(
    {"model_class": "toy_model", "text_name": "chat", "tab_field_list": ["amount", "channel"], "max_sen_len": 8},
    where="test",
)


def write(path: Path, *rows: str) -> TableSource:
    path.write_text("\n".join(["id,chat,amount,channel", *rows]) + "\n")
    return TableSource.open(path)


def decoded(batch: Batch) -> list[str]:
    text = batch.texts["chat"]
    chunks = [
        "".join(map(chr, text.tokens[a:b]))
        for a, b in zip(text.chunk_offsets[:-1], text.chunk_offsets[1:], strict=True)
    ]
    return [chunks[i] for i in text.chunk_ids]


class Raising:
    """Preprocessor that raises an error of a kind for every window. Worker processes import it from here."""

    def __init__(self, kind: type[Exception], preprocessor: Preprocessor) -> None:
        self.kind, self.keep, self.wanted = kind, preprocessor.keep, preprocessor.wanted

    def __call__(self, window: Window, times: Times) -> Batch:
        raise self.kind("not this one")
