"""Trials in the actors of Ray Tune."""
