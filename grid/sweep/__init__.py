"""Sweep file: its models, its text with line numbers, and its checks."""
