"""Measurements of this project's speed; `python -m benchmarks [NAME ...]` runs them.

A folder per subject; the files `bench_NAME.py` measure, the others are their parts.
"""
