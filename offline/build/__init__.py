"""From raw data to a bundle, stage by stage, each built once."""
