"""Reading tables in windows and writing them as a stream: CSV, TSV and Parquet.

Ids stay the same byte for byte: cells of CSV and TSV are read as bytes, columns of Parquet with their own Arrow type.
This package does not know the meaning of any column.
"""
