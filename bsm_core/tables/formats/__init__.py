"""Text files besides plain CSV and TSV: dialects, other encodings, and JSON lines."""
