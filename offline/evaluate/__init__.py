"""Leave-one-out evaluation of a bundle, part by part and as it is served."""
