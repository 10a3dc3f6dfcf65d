"""A file that cannot be closed, as on a network file system: an error, and the same command goes on."""

from __future__ import annotations

import errno
import io
import os

import pytest

from bsm_core.errors import SinkError
from bsm_core.runtime import durable
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.tables import write


class LostAtClose(io.BufferedWriter):
    """File that cannot be closed without an error."""

    def close(self):
        if not self.closed:
            super().close()
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def require_failed(data, **flags):
    with pytest.raises(SinkError, match="could not be written: Input/output error") as caught:
        data(**flags)
    assert (data.out / "_FAILURE").read_text().startswith(caught.value.one_line())
    assert not (data.out / "_SUCCESS").exists()


def test_a_part_that_cannot_be_closed_is_not_done(data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            durable,
            "_create",
            lambda path: LostAtClose(io.FileIO(path, "x")) if path.suffix == ".arrow" else path.open("xb"),
        )
        require_failed(data)
    assert WorkFolder(data.out).rows_done() == 0
    assert data().rows == 23


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
def test_predictions_that_cannot_be_closed(data, monkeypatch, format):
    data(output_format=format)
    before = (data.out / f"inference_predictions.{format}").read_bytes()
    for file in data.out.iterdir():
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(write.pa, "output_stream", lambda path, compression: LostAtClose(io.FileIO(path, "w")))
        require_failed(data, output_format=format)
    data(output_format=format, resume="require")
    assert (data.out / f"inference_predictions.{format}").read_bytes() == before
