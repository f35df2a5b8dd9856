"""Optimizers: built from a config, their groups of weights, Muon, and those of the user's own."""
