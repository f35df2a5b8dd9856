"""Time and memory of a trial: counted, measured by earlier trials, or probed."""
