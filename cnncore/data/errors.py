"""Errors of data sets."""

from __future__ import annotations


class DataError(Exception):
    """A data set that cannot be used; the message names the problem, the file and the remedy."""


class DataAbsent(DataError):
    """A data set of which nothing is on this machine."""


class DataMissing(DataAbsent):
    """A data set without its files, which `prepare_dataset` can try to download."""
