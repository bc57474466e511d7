"""Which answers the events came of.

ids.py      the id of an answer, which holds what it showed, sealed
counts.py   what was seen and clicked, by variant, strategy and position
"""
