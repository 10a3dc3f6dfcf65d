from __future__ import annotations

import pyarrow as pa
from support.windows import CONFIG, decoded

from bsm_core import BSMDataset
from bsm_core.preprocess.features import Imputer, RiskTable


def test_a_dataset_is_as_long_as_its_rows():
    assert len(BSMDataset({"chat": ["a", "b"]}, 2, CONFIG)) == 2


def test_a_text_field_is_never_risk_mapped(pipeline):
    for order in ([pipeline, RiskTable({}, 9.0)], [RiskTable({}, 9.0), pipeline]):
        dataset = BSMDataset({"chat": ["a"], "amount": ["1"], "channel": ["2"]}, 1, CONFIG)
        for processor in order:
            dataset.add_pipeline("chat", processor)
        batch, _ = dataset.to_batch()
        assert decoded(batch) == ["a"]
        assert batch.features.tolist() == [[1.0, 2.0]]


def test_imputation_comes_before_the_risk_table(pipeline):
    dataset = BSMDataset({"chat": ["a"], "amount": [""], "channel": ["1"]}, 1, CONFIG)
    dataset.add_pipeline("chat", pipeline)
    dataset.add_pipeline("amount", RiskTable({"7": 0.75}, 0.0))
    dataset.add_pipeline("amount", Imputer(7.0))
    assert dataset.to_batch()[0].features.tolist() == [[0.75, 1.0]]


def test_missing_categories_are_filled_and_the_label_is_not():
    columns = {name: pa.array(["x", None]) for name in ("channel", "label", "other")}
    dataset = BSMDataset(columns, 2, CONFIG)
    dataset.fill_missing_value(label_name="label", column_cat_name=["channel", "label", "absent"])
    assert dataset.columns["channel"].to_pylist() == ["x", ""]
    assert dataset.columns["label"].to_pylist() == ["x", None]
    assert dataset.columns["other"].to_pylist() == ["x", None]
