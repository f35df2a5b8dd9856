"""The figures' definitions in Altair, a family per file."""
