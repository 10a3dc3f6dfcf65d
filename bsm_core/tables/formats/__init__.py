"""Details of formats: dialects of CSV, other encodings, JSON lines, and one type for a column of several files."""
