"""Which answers the events came of.

ids.py      the id of an answer, which holds what it showed, sealed
"""
