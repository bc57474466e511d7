"""The P5 model: its tokenizer, its training, and its export to the graphs that are served."""
