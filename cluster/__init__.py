"""Clusters that run command lines: Slurm and Ray; knows no sweep and no torch."""
