"""Kinds of data sets, told by their names alone; imports no reader."""

from __future__ import annotations

from pathlib import Path

from cnncore.catalog import DATASETS
from cnncore.data.folders.listed_rows import split_options
from cnncore.data.sources.torchvision_table import is_of_arrays
from cnncore.functions import RESERVED

# Readers of lists of pictures by the word before the colon; each is called with the data set's
# name, the data folder, the folders of the cache, and whether to leave out unreadable pictures.
PICTURE_READERS = {
    "csv": "cnncore.data.folders.csv_file:list_csv",
    "imagefolder": "cnncore.data.folders.imagefolder:list_folder",
    "parquet": "cnncore.data.folders.parquet_files:list_parquet",
    "torchvision": "cnncore.data.sources.torchvision_sets:list_official",
}


def is_function(name: str) -> bool:
    """Tell a user's function (`cnncore/data/own_data.py`) from other data sets."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix not in RESERVED


def picture_reader(name: str) -> str | None:
    """Return the reader of a data set that is a list of pictures; None for others."""
    prefix, colon, _ = name.partition(":")
    if not colon or is_of_arrays(name):
        return None
    return PICTURE_READERS.get(prefix)


def is_of_pictures(name: str) -> bool:
    """Tell if a data set is of pictures of any shape, to which `resize` and `background` apply."""
    return DATASETS[name].folder if name in DATASETS else picture_reader(name) is not None


def name_from(name: str, data_dir: Path, folder: str | None) -> str:
    """Return the name of a data set with its path made absolute if it lies below `folder` only.

    Relative paths are looked up below `data_dir` and then below the folder where the command was
    typed, which a process elsewhere has to be told.
    """
    prefix, colon, rest = name.partition(":")
    if folder is None or not colon or prefix not in ("csv", "imagefolder", "parquet"):
        return name
    path = Path(split_options(rest)[0]).expanduser()
    if (data_dir / path).exists() or not (Path(folder) / path).exists():
        return name
    return f"{prefix}:{Path(folder) / Path(rest).expanduser()}"
