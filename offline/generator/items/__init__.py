"""The item generator: one position an item, all prefixes of a history in one pass."""
