"""The catalog of record: durable edits, and what serving new items takes."""
