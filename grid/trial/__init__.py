"""One trial from its config to its rows (imports nothing, so that a driver needs no torch)."""
