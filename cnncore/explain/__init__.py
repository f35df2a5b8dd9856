"""Looks at one network and its images: grids, maps, attributions, enhancement, costs by theory.

Each module takes a network or a split and returns an image or plain numbers; nothing is written.
"""
