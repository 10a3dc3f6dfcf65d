"""Columns of embeddings: the id, and the vectors of each row as fixed-size lists of float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from bsm_core.errors import DataError
from bsm_core.tables.cell_values import escaped_text


class EmbeddingColumns:
    """Columns of the file of the embeddings.

    Args:
        id_column: The id column, as it is in Parquet.
        sizes: Size of each vector by its name, in the order of the columns.

    Attributes:
        schema: The columns and their types.

    Raises:
        DataError: The id column has the name of a vector.
    """

    def __init__(self, id_column: pa.Field, sizes: Mapping[str, int]) -> None:
        if id_column.name in sizes:
            raise DataError(f"the id column has the name of embeddings: {id_column.name}", fix="rename it")
        number = pa.field("element", pa.float32())  # its name in Parquet, which a reader then finds in the type, too
        self.schema = pa.schema([id_column, *((name, pa.list_(number, size)) for name, size in sizes.items())])

    def table(self, ids: pa.ChunkedArray, vectors: Mapping[str, Tensor], failed: Sequence[int] = ()) -> pa.Table:
        """Return the embeddings of rows.

        Args:
            ids: Ids of the rows. Bytes of text files become strings, in which bytes that are not UTF-8 are escaped.
            vectors: Vectors of the rows by name, float ``[rows, size]``.
            failed: Rows whose vectors are null. If all rows failed, ``vectors`` may lack some.
        """
        kind = self.schema.field(0).type
        columns = [ids if ids.type == kind else escaped_text(ids)]
        empty = np.zeros(len(ids), bool)
        empty[[*failed]] = True
        mask = pa.array(empty) if failed else None
        for column in list(self.schema)[1:]:
            found = np.zeros((len(ids), column.type.list_size), np.float32)
            if column.name in vectors:
                found = vector_array(vectors[column.name], failed, 0)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), type=column.type, mask=mask))
        return pa.table(columns, schema=self.schema)


def vector_array(vectors: Tensor, failed: Sequence[int] = (), missing: float = np.nan) -> npt.NDArray[np.float32]:
    """Return vectors as an array, float32 ``[rows, size]``.

    Args:
        vectors: Vectors, float ``[rows, size]``, on any device.
        failed: Rows that have no vector.
        missing: The numbers of these rows.
    """
    found: npt.NDArray[np.float32] = vectors.detach().float().cpu().contiguous().numpy()
    if failed:
        found = found.copy()
        found[[*failed]] = missing
    return found
