from __future__ import annotations

import pickle

import pyarrow as pa
from support.windows import decoded, write

from bsm_core.preprocess.columns import NOT_TEXT


def test_a_window_becomes_a_batch(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey|you,3,web", "02,hey,,mail")
    (window,) = source.windows(["id", "chat", "amount", "channel"])
    batch = preprocessor(window)
    assert batch.rows == 2
    assert decoded(batch) == ["hey", "you", "hey"]
    assert batch.features.tolist() == [[3.0, 0.5], [2.0, 0.25]]
    assert batch.window.kept.to_pydict() == {"id": [b"01", b"02"]}
    assert (batch.window.index, batch.window.last) == (0, True)
    assert not batch.window.findings.counts()


def test_rows_are_named_by_their_ids_or_else_by_their_place_in_the_table(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey,3,web", '"a""b",hey,,mail', "03,,,")
    columns = ["id", "chat", "amount", "channel"]
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=1)] == [["01"], ['a"b'], ["03"]]
    preprocessor.keep = ()
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=2)] == [[0], [2]]
    assert preprocessor.batch({name: pa.nulls(3) for name in columns}, 3)[0].names([0, 2]) == [0, 2]


def test_findings_name_rows_and_count_cells(preprocessor):
    columns = {
        "chat": pa.array([b"ok", b"\xff", b"no!"], pa.binary()),
        "amount": pa.array([b"1", b"two", b"inf"], pa.binary()),
        "channel": pa.array([b"web"] * 3, pa.binary()),
    }
    batch, findings = preprocessor.batch(columns, 3)
    assert decoded(batch) == ["ok"]
    assert [(f.row, f.step) for f in findings.texts["chat"]] == [(1, NOT_TEXT), (2, "toy_tokens")]
    assert findings.counts() == {"text:chat": 2, "number:amount": 2}
    assert batch.features[:, 0].tolist() == [1.0, 2.0, 2.0]


def test_wanted_columns_and_who_wants_them(preprocessor):
    assert preprocessor.wanted == {
        "amount": "config.tab_field_list",
        "channel": "config.tab_field_list",
        "chat": "config.text_name",
    }


def test_no_plugin_object_is_pickled(preprocessor):
    preprocessor.pipelines["chat"].steps[0].step.cannot_be_pickled = lambda: None
    assert decoded(
        pickle.loads(pickle.dumps(preprocessor)).batch({"chat": ["q"], "amount": [1], "channel": [""]}, 1)[0]
    ) == ["q"]
