"""A data set or a file format per file."""
