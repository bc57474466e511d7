"""What several commands share, and what is too much for the file of one."""
