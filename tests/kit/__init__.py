"""What is tried with tools that CI does not bring: `make check-callers`."""
