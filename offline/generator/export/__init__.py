"""The export of a T5 to three ONNX graphs, and the proof that they agree with it.

weights.py      one file of weights for all graphs of a precision
linear.py       what a precision is: how the products of linear layers are written
calibrate.py    the scales of 8-bit activations
layers.py       T5's layers
encode.py       what is read of a prompt, once, as one graph
search.py       the whole constrained beam search as one graph
rerank.py       the exact scores of given items as one graph
heads.py        what the score of a token is made of, by kind of model
files.py        all that the generator service loads, in one directory
parity.py       token models against `transformers`
item_parity.py  models that read whole items against themselves in torch, and a beam search in numpy
"""
