"""Writing text, beside others that do."""
