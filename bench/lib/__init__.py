"""What measurements have in common: load by ghz, processes, clocks and reports."""
