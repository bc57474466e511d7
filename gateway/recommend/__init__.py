"""One list of recommendations: strategies, blending, fallbacks."""
