"""Training that starts from the parameters of a bundle, mapped to the items and users of today."""
