"""The offline pipeline: from interaction logs and item text to a bundle.

The only place that imports torch or transformers.
"""
