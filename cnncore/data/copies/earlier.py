"""Pixels that were decoded before, found by the content of their pictures in all copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnncore.data.arrays import Images
from cnncore.data.copies.image_files import SPLITS, Keys, stored_images

# File of a copy that is whole, written last.
ABOUT = "about.json"


class EarlierPixels:
    """Images of earlier copies, finished or not, for pictures with these `keys`.

    Copies whose file of keys is called `keys_name` hold pixels that the same decoder made in the
    same way. The newest copies are asked first; `but` names a folder that is not asked.
    """

    def __init__(
        self, roots: Iterable[Path], keys_name: str, keys: Keys, side: int, but: Path | None = None
    ) -> None:
        """Find the copies; a damaged one is passed over."""
        self._images: list[list[Images]] = []
        # For each picture the copy that has it, -1 for none, and its number there.
        self._copy = np.full(len(keys), -1, np.int64)
        self._number = np.zeros(len(keys), np.int64)
        folders = {
            path.parent: path.stat().st_mtime_ns
            for root in roots
            for path in root.glob(f"*/{keys_name}")
            if path.parent != but
        }
        for folder in sorted(folders, key=folders.__getitem__, reverse=True):
            if (self._copy >= 0).all():
                break
            try:
                self._take(folder, np.load(folder / keys_name), keys, side)
            except (OSError, ValueError):  # damaged, or removed meanwhile
                continue

    @property
    def found(self) -> Sequence[bool]:
        """Tell for each picture if a copy has its pixels."""
        known: list[bool] = (self._copy >= 0).tolist()
        return known

    def image(self, index: int) -> Images:
        """Return the pixels of a picture that was found."""
        (train, test), number = self._images[self._copy[index]], self._number[index]
        image: Images = train[number] if number < len(train) else test[number - len(train)]
        return image

    def _take(self, folder: Path, theirs: Keys, keys: Keys, side: int) -> None:
        images = [np.load(folder / f"{split}_images.npy", "r") for split in SPLITS]
        if sum(map(len, images)) != len(theirs) or not len(theirs):
            return
        if any(array.dtype != np.uint8 or array.shape[1:] != (side, side, 3) for array in images):
            return
        if (folder / ABOUT).exists():
            there = np.arange(len(theirs))
        else:
            there = np.flatnonzero(stored_images(folder))
        if not len(there):
            return
        wanted, known = _bytes(keys), _bytes(theirs)[there]
        order = np.argsort(known)
        at = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
        new = (known[order[at]] == wanted) & (self._copy < 0)
        self._copy[new] = len(self._images)
        self._number[new] = there[order[at[new]]]
        self._images.append(images)


def _bytes(keys: Keys) -> npt.NDArray[np.bytes_]:
    """Return each key as one value, which numpy can sort."""
    return np.ascontiguousarray(keys).view(f"S{keys.shape[1]}").ravel()
