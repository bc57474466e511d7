"""The export of a T5 to the two ONNX graphs that are served, and the proof that they agree with it.

weights.py  one file of weights for both graphs
layers.py   T5's layers
search.py   the whole constrained beam search as one graph
rerank.py   the exact scores of given items as one graph
parity.py   both against `transformers`
"""
