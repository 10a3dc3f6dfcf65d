"""Backend ``"tuned"``: BERT, its relatives and ModernBERT without padding; weights are packed for oneDNN on the CPU."""
