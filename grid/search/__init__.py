"""The search inside cells: suggestions, stopping rules, outcomes."""
