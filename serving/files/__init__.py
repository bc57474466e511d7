"""Files beside the bundle: those that a process reads, and those that it writes.

watched.py     read again when they change
tables.py      TOML, checked
replacing.py   written whole or not at all
"""
