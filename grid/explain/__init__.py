"""Analyses of a finished trial's network."""
