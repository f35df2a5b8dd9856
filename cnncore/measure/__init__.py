"""What is measured of a network: predictions, metrics, time, memory."""
