"""Analyses of one network and its images: grids, maps, attributions, enhancement, costs in theory.

Each module takes a network or a split and returns an image or plain numbers; none writes files.
"""
