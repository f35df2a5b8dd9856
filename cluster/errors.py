"""The error of a cluster."""

from __future__ import annotations


class ClusterError(Exception):
    """A cluster that refuses or cannot be reached; the user reads the message."""
