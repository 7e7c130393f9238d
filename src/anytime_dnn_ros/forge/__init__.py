"""Build time: make, compress and pack ladders. Needs the `forge` extra (torch, onnx)."""

MEND = "in the source folder run `make forge` (or pip install '.[forge]', for another Python)"
