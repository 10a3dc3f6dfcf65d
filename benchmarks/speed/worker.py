"""One measurement in a new process: ``python worker.py job.json`` writes its figures to ``job["result"]``.

bsm is timed from the file of the rows to the file of the predictions (``bsm_core.run``), less the time of the same run
on a few rows, which is start-up. A rival is timed from texts in memory, already cleaned by the artifact's text steps,
and features in memory, to the file of the predictions; loading, export and compiling are not included. Both have scored
some of the rows before. Start-up is reported separately; imports are not included in either.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from data import FEATURES, ID
from rivals import RIVALS, Subject
from torch import Tensor

from bsm_core import Kind, Pipeline, Predictor
from bsm_core.run import main as command

WARM_UP = 8
"""One in this number of rows or chunks is scored before the measurement, so that every length has occurred."""
PREDICTIONS = "inference_predictions.parquet"


def bsm(job: dict[str, Any]) -> dict[str, Any]:
    """Time a whole run of bsm, and runs on a few rows: the first run, and one after the warm-up."""
    few, rows = (pq.read_metadata(job[table]).num_rows for table in ("few", "table"))
    cold, _ = _clocked(lambda: _run(job, job["few"]))
    with tempfile.TemporaryDirectory() as folder:
        some = Path(folder) / "some.parquet"
        pq.write_table(pq.read_table(job["table"]).take(list(range(0, rows, WARM_UP))), some)
        _run(job, some)
    warm, warm_cpu = _clocked(lambda: _run(job, job["few"]))
    whole, cpu = _clocked(lambda: _run(job, job["table"]))
    record = json.loads((Path(job["output"]) / "run.json").read_text())
    return {
        "seconds": whole - warm,
        "whole": whole,
        "few": warm,
        "cpu_seconds": cpu - warm_cpu,
        "rows": rows - few,
        "start_up": cold,
        "used": {key: record[key] for key in ("device", "encoders") if key in record},
    }


def _run(job: dict[str, Any], table: str | Path) -> None:
    """Run ``bsm_core.run`` in this process, whose peak memory is measured, after freeing earlier objects."""
    gc.unfreeze()  # a run freezes its imports, because its process usually ends with it
    gc.collect()
    places = ["--model-dir", job["artifact"], "--data-dir", str(table), "--output-dir", job["output"]]
    device = "1" if job["device"] == "cuda" else "cpu"  # one GPU, as for the rivals
    status = command(
        ["--job_type", "inference", "--id-field", ID, *places, "--device", device, "--run-record", *job["flags"]]
    )
    if status:
        raise SystemExit(status)


def rival(job: dict[str, Any]) -> dict[str, Any]:
    """Time a rival on the texts of the rows."""
    began = time.perf_counter()
    predictor = Predictor.from_artifact(job["artifact"], device=job["device"], backend="eager")
    table = pq.read_table(job["table"])
    chunks, per_row, features = _prepared(predictor, table)
    model = predictor.model
    config, encoder = model.config, model.text_subnetwork
    tokenizer = predictor.preprocessor.pipelines[config.text_name].context.tokenizer
    subject = Subject(encoder.bert, tokenizer, config.max_sen_len, job["device"], job["precision"])
    encode = RIVALS[job["rival"]](subject)
    with torch.inference_mode():
        encode(chunks[::WARM_UP])
    start_up = time.perf_counter() - began

    @torch.inference_mode()
    def score() -> None:
        means = torch.segment_reduce(encode(chunks).float(), "mean", lengths=per_row, axis=0)
        fused = model.fuse_rows({config.text_name: encoder.project(means)}, features)
        _write(job, table[ID], model.classify_rows(fused))

    seconds, cpu = _clocked(score)
    return {"seconds": seconds, "cpu_seconds": cpu, "rows": table.num_rows, "start_up": start_up}


def _prepared(predictor: Predictor, table: pa.Table) -> tuple[list[str], Tensor, Tensor]:
    """Return the texts of all chunks, the number of chunks of each row, and the features of the artifact."""
    preprocessor, device = predictor.preprocessor, predictor.model.device
    (field,) = preprocessor.config.text_fields
    context = preprocessor.pipelines[field.column].context
    cut = next(i for i, step in enumerate(preprocessor.pipelines[field.column].steps) if step.name == "tokenizer")
    cleaned, _ = Pipeline(field.steps[:cut], context, must_give=Kind.CHUNKS)(table[field.column].to_pylist())
    columns = {name: table[name] for name in preprocessor.wanted}
    batch, _ = preprocessor.batch(columns, table.num_rows)
    per_row = torch.tensor([len(chunks) for chunks in cleaned], device=device)
    return [chunk for chunks in cleaned for chunk in chunks], per_row, batch.features.to(device)


def pandas_loop(job: dict[str, Any]) -> dict[str, Any]:
    """Time a script for features only: pandas reads, imputes and writes, the model scores 4,096 rows at once."""
    began = time.perf_counter()
    predictor = Predictor.from_artifact(job["artifact"], device=job["device"])
    model = predictor.model

    @torch.inference_mode()
    def score(table: str) -> None:
        rows = pd.read_parquet(table)
        features = torch.tensor(rows[list(FEATURES)].fillna(0.0).to_numpy("float32"), device=job["device"])
        logits = [model.final_merge_network(model.tab_subnetwork(some)) for some in features.split(4096)]
        _write(job, pa.array(rows[ID]), torch.cat(logits))

    score(job["few"])
    start_up = time.perf_counter() - began
    seconds, cpu = _clocked(lambda: score(job["table"]))
    rows = pq.read_metadata(job["table"]).num_rows
    return {"seconds": seconds, "cpu_seconds": cpu, "rows": rows, "start_up": start_up}


def _write(job: dict[str, Any], ids: pa.ChunkedArray | pa.Array, logits: Tensor) -> None:
    probabilities = logits.double().softmax(dim=-1).cpu().numpy()
    columns = {f"prob_class_{i}": probabilities[:, i] for i in range(probabilities.shape[1])}
    Path(job["output"]).mkdir(exist_ok=True)
    pq.write_table(pa.table({ID: ids, **columns}), Path(job["output"]) / PREDICTIONS)


def _clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Return wall and processor seconds of a call, which writes its result to a file and so waits for the GPU."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def peak_memory() -> dict[str, float]:
    """Return the peak resident memory of this process, and PyTorch's on the GPU, in MB (2^20 bytes)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peaks = {"peak_mb": int(line.split()[1]) / 1024}
    return peaks | ({"gpu_peak_mb": torch.cuda.max_memory_allocated() / 2**20} if torch.cuda.is_available() else {})


def main() -> None:
    """Run the measurement that the job describes."""
    job = json.loads(Path(sys.argv[1]).read_text())
    task = {None: bsm, "pandas": pandas_loop}.get(job["rival"], rival)
    Path(job["result"]).write_text(json.dumps(task(job) | peak_memory()))


if __name__ == "__main__":
    main()
