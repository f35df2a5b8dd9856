"""The lock of a results folder: which drivers may work on it."""
