"""Search inside cells: suggestions, stopping rules, outcomes."""
