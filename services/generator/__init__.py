"""The generator service: P5 in ONNX Runtime, decoding only items that exist and are allowed."""
