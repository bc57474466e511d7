"""The token generator: T5 checkpoints and OpenP5, prompts read token by token."""
