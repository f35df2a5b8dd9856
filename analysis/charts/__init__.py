"""Ready figures (`catalog.py` lists them) in Altair, a family per file, and their file formats."""
