"""Measurements of Tandem as it runs: each prints a table and writes `build/bench/<name>.json`."""
