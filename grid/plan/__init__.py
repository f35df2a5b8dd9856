"""Plan: the cells and trials that follow from a sweep file, and their ids."""
