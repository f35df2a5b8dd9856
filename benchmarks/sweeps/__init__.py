"""Speed of whole commands: a sweep, the overhead of a trial, queries of the results."""
