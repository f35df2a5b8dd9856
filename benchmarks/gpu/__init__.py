"""Measurements on a real GPU, for a machine that is lent for minutes; see README.md beside this."""
