"""Networks, one family per file; those of a library as they are in the file of its name."""
