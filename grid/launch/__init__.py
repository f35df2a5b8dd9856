"""A sweep as a job of a cluster."""
