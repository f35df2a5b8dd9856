"""Launch of a sweep as a job of a cluster."""
