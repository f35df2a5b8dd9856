"""What can be wrong with a data set."""

from __future__ import annotations


class DataError(Exception):
    """A data set that cannot be used: what is wrong, where, and what to do."""


class DataMissing(DataError):
    """The files are not there, but `prepare_dataset` can try to download them."""
