"""What people wrote about items: who learns from which of it, its sentences, and its words."""
