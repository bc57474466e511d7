"""Events that gateways recorded, as a table for the next training run.

table.py    their columns, and how they are written
weights.py  what an event counts by its type
"""
