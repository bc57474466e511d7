"""Decoder-only models as a backbone: LLaMA, and those that are built like it (Qwen2, Qwen3).

layers.py       their layers
prefill.py      what is read of a prompt, once, as one graph
decoder.py      how codes are read in the search and in the rerank
backbone.py     all of it
"""
