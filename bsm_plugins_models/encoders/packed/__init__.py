"""Backend ``"tuned"``: BERT and RoBERTa without padding, with weights that are packed for oneDNN on the CPU."""
