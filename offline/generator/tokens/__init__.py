"""The token generator: prompts read token by token, as T5, LLaMA and OpenP5 read them."""
