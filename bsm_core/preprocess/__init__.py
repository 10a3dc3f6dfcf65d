"""From the columns of a window to a batch: text steps, pipelines, tabular features."""
