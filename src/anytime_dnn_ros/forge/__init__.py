"""Build time: make, compress and pack ladders. Needs the `forge` extra (torch, onnx)."""
