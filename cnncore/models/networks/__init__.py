"""Networks, a family per file."""
