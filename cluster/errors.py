"""What can go wrong between us and a cluster."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster refused, or is not there; the message is for the user, often the cluster's."""
