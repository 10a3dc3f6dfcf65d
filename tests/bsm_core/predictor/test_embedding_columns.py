from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bsm_core.errors import DataError
from bsm_core.predictor.embedding_columns import EmbeddingColumns, vector_array

ID = pa.field("id", pa.string())
SIZES = {"embedding_chat": 2, "embedding": 3}
VECTORS = {"embedding_chat": torch.arange(6.0).reshape(3, 2), "embedding": torch.arange(9.0).reshape(3, 3)}


def ids(*values):
    return pa.chunked_array([pa.array(values)])


def test_vectors_are_fixed_size_lists_that_come_back_from_parquet(tmp_path):
    columns = EmbeddingColumns(ID, SIZES)
    table = columns.table(ids("a", "b", "c"), VECTORS, [1])
    assert table.schema == columns.schema
    assert table["embedding_chat"].to_pylist() == [[0, 1], None, [4, 5]]
    assert table["embedding"].to_pylist() == [[0, 1, 2], None, [6, 7, 8]]
    pq.write_table(table, tmp_path / "t.parquet")
    again = pq.read_table(tmp_path / "t.parquet")
    assert again.schema == table.schema
    assert str(again.schema.field(1).type) == str(table.schema.field(1).type)
    assert again.to_pylist() == table.to_pylist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_vectors_of_any_precision_are_float32(dtype):
    array = vector_array(VECTORS["embedding"].to(dtype).T)
    assert array.dtype == np.float32
    assert array.tolist() == VECTORS["embedding"].T.tolist()


def test_failed_rows_do_not_change_the_tensor():
    vectors = torch.ones(2, 2)
    assert np.isnan(vector_array(vectors, [0])).tolist() == [[True, True], [False, False]]
    assert vectors.tolist() == [[1, 1], [1, 1]]


def test_rows_without_vectors_are_null():
    table = EmbeddingColumns(ID, SIZES).table(ids("a", "b"), {}, range(2))
    assert [table[name].null_count for name in SIZES] == [2, 2]


def test_no_rows():
    table = EmbeddingColumns(ID, SIZES).table(pa.chunked_array([[]], pa.string()), {})
    assert len(table) == 0


def test_bytes_that_are_no_text_are_escaped():
    table = EmbeddingColumns(ID, {}).table(ids(b"caf\xe9", b"a", None), {})
    assert table["id"].to_pylist() == ["caf\\xe9", "a", None]


def test_an_id_with_the_name_of_a_vector_is_an_error():
    with pytest.raises(DataError, match="the id column has the name of embeddings: embedding_chat"):
        EmbeddingColumns(pa.field("embedding_chat", pa.string()), SIZES)
