"""What it takes to operate the processes: swaps, and being watched."""
