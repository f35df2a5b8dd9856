"""Decoded copies on the disk: made by one process at a time, resumed, shared, removed."""
