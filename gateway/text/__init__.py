"""Generated text: explanations and summaries, passed on as the generator writes them."""
