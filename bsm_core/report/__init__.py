"""Statistics of scored rows, and the report that is drawn from them."""
