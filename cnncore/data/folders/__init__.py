"""Data sets that are folders of pictures: classes and splits, decoding by mode, a cache by file."""
