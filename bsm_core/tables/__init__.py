"""Input tables in windows, output tables as a stream: CSV, TSV and Parquet, every id kept byte for byte.

Nothing here knows what a column means. CSV and TSV cells are read as the bytes they are, Parquet columns with their
own Arrow type.
"""

from bsm_core.tables.convert import convert
from bsm_core.tables.data_files import FORMATS, Format, detect_format, discover, warn_of_passed_over
from bsm_core.tables.read import TableSource, Window
from bsm_core.tables.required_columns import require_columns
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
