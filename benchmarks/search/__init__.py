"""The search and early stopping on recorded curves, with a virtual clock."""
