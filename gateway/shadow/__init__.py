"""Shadow: a share of the calls, answered once more by a variant, to see how its lists differ."""
