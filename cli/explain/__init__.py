"""Texts that a model writes of items: `tandem explain`, and what prints them below a list."""
