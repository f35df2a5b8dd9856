"""Readers of data sets, one per file, and the files' checks; `open.py` finds a reader by name."""
