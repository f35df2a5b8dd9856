"""One run of a sweep: the driver, what executes trials, what stays on the disk."""
