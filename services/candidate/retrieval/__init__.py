"""How items are found: by a history, or by likeness to items, a text or a vector."""
