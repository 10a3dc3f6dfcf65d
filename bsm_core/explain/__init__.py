"""Reasons for scores: what each feature, each text field and each token adds to the score of a row."""
