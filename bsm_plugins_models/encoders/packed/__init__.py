"""BERT on the CPU without padding: weights packed for oneDNN, chunks of one length at a time where they must be."""
