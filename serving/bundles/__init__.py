"""The versions of a bundle that a process holds, and how one takes the place of another."""
