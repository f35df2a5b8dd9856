"""Ready tables, their statistics and their formats."""
