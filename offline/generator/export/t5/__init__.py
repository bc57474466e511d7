"""T5 as a backbone: an encoder reads the prompt, a decoder attends to what it made of it.

layers.py       its layers
encode.py       what is read of a prompt, once, as one graph
decoder.py      how codes are read in the search and in the rerank
backbone.py     all of it, for models that read tokens and for those that read whole items
"""
