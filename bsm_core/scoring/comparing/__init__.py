"""Parts of a comparison of two prediction files: their columns, how their rows are joined, and traits of rows."""
