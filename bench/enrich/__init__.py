"""What generated item text is worth: rankings with and without it, over the same questions."""
