"""The results folder, on a disk or in an object store."""
