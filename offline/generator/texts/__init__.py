"""The families that write text: what they are asked, and batches of it."""
