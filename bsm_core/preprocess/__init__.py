"""From the columns of a window to a batch: text steps, pipelines, features, and the loader of batches."""
