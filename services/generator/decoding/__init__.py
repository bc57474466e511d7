"""The constrained search in ONNX Runtime, and the trie that constrains it."""
