"""Run one stage of a ladder: ONNX Runtime on any machine."""
