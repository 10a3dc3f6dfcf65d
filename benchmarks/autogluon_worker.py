"""AutoGluon's part of training_rivals.py, run by the Python of AutoGluon's environment, without bsm."""

from __future__ import annotations

import json
import sys
import time

import pandas as pd
from autogluon.multimodal import MultiModalPredictor


def main(job: dict[str, str | float]) -> None:
    """Fit on the training rows for some seconds, and write the scores of the held-out rows."""
    folder = job["folder"]
    training, held_out = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("training", "held_out"))
    predictor = MultiModalPredictor(label=job["label"], problem_type="binary", path=f"{folder}/model")
    began = time.monotonic()
    predictor.fit(
        training,
        time_limit=job["seconds"],
        seed=job["seed"],
        hyperparameters={
            "model.names": ["hf_text", "numerical_mlp", "categorical_mlp", "fusion_mlp"],
            "model.hf_text.checkpoint_name": job["checkpoint"],
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    seconds = time.monotonic() - began
    scores = predictor.predict_proba(held_out)[1].tolist()
    with open(f"{folder}/result.json", "w") as file:  # noqa: PTH123 - no library of this project is here
        json.dump({"scores": scores, "seconds": seconds}, file)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
