"""Backends compute a text encoder: choosing one, ONNX Runtime, and the export of encoders."""
