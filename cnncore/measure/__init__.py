"""Measurements of a network: predictions, metrics, latency, memory, energy."""
