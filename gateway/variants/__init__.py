"""Serving configurations and variants: what a gateway answers whom with, and what it withdraws."""
