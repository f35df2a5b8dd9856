"""Ready tables (`catalog.py` lists them), their statistics and their formats."""
