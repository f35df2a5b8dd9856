"""Flowers: photographs of five classes, a folder each: Kaggle's "Flowers Recognition"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cnncore.data.errors import DataAbsent, DataError
from cnncore.data.folders.imagefolder import list_files
from cnncore.data.folders.picture_list import PictureList

FOLDER = "flowers"
CLASS_NAMES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def list_flowers(
    data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the image files as `list_files` does.

    Raises `DataAbsent` if the folder is missing, `DataError` if it has other classes.
    """
    folder = data_dir / FOLDER
    if not folder.is_dir():
        raise DataAbsent(
            f"data set flowers: there is no folder {folder}; put the images there, a folder per "
            f"class ({', '.join(CLASS_NAMES)}), or name another data folder with --data"
        )
    path = str(folder.absolute())
    files = list_files("data set flowers", path, data_dir, roots, skip_unreadable)
    if files.classes != CLASS_NAMES:
        raise DataError(
            f"data set flowers: the classes must be {', '.join(CLASS_NAMES)}, but {folder} holds "
            f"{', '.join(files.classes)}; use imagefolder:{folder} for classes of your own"
        )
    return files
