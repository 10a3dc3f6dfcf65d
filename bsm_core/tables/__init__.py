"""Reading tables in windows and writing them as a stream: CSV, TSV and Parquet.

Ids stay the same byte for byte: cells of CSV and TSV are read as bytes, columns of Parquet with their own Arrow type.
This package does not know the meaning of any column.
"""

from bsm_core.tables.convert import convert
from bsm_core.tables.data_files import FORMATS, Format, detect_format, discover, warn_of_passed_over
from bsm_core.tables.read import TableSource, Window, require_columns
from bsm_core.tables.write import TableWriter, output_schema

__all__ = [
    "FORMATS",
    "Format",
    "TableSource",
    "TableWriter",
    "Window",
    "convert",
    "detect_format",
    "discover",
    "output_schema",
    "require_columns",
    "warn_of_passed_over",
]
