"""Sweeps on a Ray cluster whose processes are killed, and on a real Slurm."""
