"""Tandem's two back ends; neither knows the other."""
