"""Shadow: a share of the calls, answered once more by a variant, to see how its lists differ.

shadow.py       which calls, and how the variant is asked
replay.py       when, how many at a time, and what comes of them
differences.py  overlap and rank-biased overlap of two lists
metrics.py      what is counted
"""
