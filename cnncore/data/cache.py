"""Decoded copies of data sets on disk: made once per machine, memory-mapped by every trial.

One process makes a copy, in a folder `.part` that it holds (`copies/locks.py`); the others wait.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.data.arrays import CheckedArrays, Images, Labels, checked
from cnncore.data.copies.earlier import ABOUT
from cnncore.data.copies.image_files import DONE, has_progress, progress_of
from cnncore.data.copies.locks import LOCK, NoLocksError, held, use
from cnncore.data.copies.origins import Origin, leave_others, note_origin, noted_origin
from cnncore.data.progress import tell_progress

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
# Part of every copy's name: a change of what is stored makes new copies.
FORMAT = 1
# Ending of a folder in which a copy is made.
PART = ".part"


@dataclass(frozen=True, eq=False)
class ImageData:
    """A decoded data set, compared by identity.

    Images are uint8 `(images, side, side, 3)`, memory-mapped; labels are int64 from 0.
    `fingerprint` is a hash of a folder's image files, or else of the arrays. `mean` and `std` are
    per channel over the training images, pixel values in [0, 1]. `skipped` counts image files that
    were left out because they cannot be read. The last `validation` training images are a
    validation split of the data set's own. `notes` say what arrays were taken for.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    fingerprint: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    skipped: int = 0
    validation: int = 0
    notes: tuple[str, ...] = ()


def cache_roots(data_dir: Path) -> list[Path]:
    """Return the folders for decoded copies, the preferred one first.

    They are `.cache` of the data folder, and `cnngrid/decoded` in the user's cache folder, which is
    `$XDG_CACHE_HOME` or `~/.cache`.
    The first of them that can be created is created.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    roots = [data_dir / ".cache", Path(base) / "cnngrid" / "decoded"]
    for root in roots:
        try:
            root.mkdir(parents=True, exist_ok=True)
            break
        except OSError:
            continue
    return roots


def copy_folder(root: Path, key: str) -> Path:
    """Return the folder of the decoded copy called `key` below a root."""
    return root / f"{key}-{FORMAT}"


def open_copy(name: str, key: str, roots: list[Path]) -> ImageData | None:
    """Return the decoded copy called `key`; None if it is missing or damaged."""
    for root in roots:
        folder = copy_folder(root, key)
        lock = use(folder)
        try:
            about = json.loads((folder / ABOUT).read_text())
            images: dict[str, Any] = {
                array: np.load(
                    folder / f"{array}.npy", mmap_mode="r" if array.endswith("images") else None
                )
                for array in ARRAYS
            }
        except (OSError, ValueError):  # missing, truncated, not JSON
            if lock is not None:
                os.close(lock)
            continue
        if lock is not None:  # the copy is in use as long as its images are
            weakref.finalize(images["train_images"], os.close, lock)
        return ImageData(
            name=name,
            class_names=tuple(about["class_names"]),
            fingerprint=about["fingerprint"],
            mean=tuple(about["mean"]),
            std=tuple(about["std"]),
            **images,
        )
    return None


def open_for(name: str, key: str, roots: list[Path], origin: Origin) -> ImageData | None:
    """Return the copy called `key` if it is known to serve a data set, whose files stay unread."""
    for root in roots:
        noted = noted_origin(copy_folder(root, key), origin)
        if noted and (copy := open_copy(name, key, [root])):
            return replace(copy, skipped=noted.skipped, validation=noted.validation)
    return None


def settle(key: str, others: str, roots: list[Path], origin: Origin) -> None:
    """Note that a data set has the copy called `key`, and has left those that `others` matches."""
    copies = [folder for root in roots if (folder := copy_folder(root, key)).is_dir()]
    for folder in copies:
        note_origin(folder, origin)
    for root in roots if copies else ():
        name = copy_folder(root, others).name
        left = [*root.glob(name), *root.glob(f"{name}{PART}")]
        leave_others([folder for folder in left if folder not in copies], origin)


def make_copy(
    name: str,
    key: str,
    fingerprint: str | None,
    roots: list[Path],
    read: Callable[[Path | None], Any],
    *,
    origin: Origin | None = None,
    resumes: bool = False,
) -> ImageData:
    """Read a data set and store its decoded copy in the first root that can be written.

    Concurrent callers wait for the first, and open its copy. With `resumes` the reader continues
    what an earlier process left in the folder that it is given. `origin` is noted in the copy. If
    no root can be written, the arrays stay in memory.
    """
    for root in roots:
        try:
            with _workspace(name, copy_folder(root, key)) as workspace:
                if copy := open_copy(name, key, [root]):  # another process made it
                    return copy
                if not resumes:
                    _empty(workspace)
                if origin:
                    note_origin(workspace, origin)
                arrays = checked(name, read(workspace))
                data = _image_data(name, arrays, fingerprint)
                _write(workspace, data)
                publish(workspace, copy_folder(root, key))
        except OSError:  # for example, the disk is full
            continue
        return open_copy(name, key, [root]) or data  # now that others may use it
    return _image_data(name, checked(name, read(None)), fingerprint)


@contextmanager
def _workspace(name: str, folder: Path) -> Iterator[Path]:
    """Yield the folder in which a copy is made, held by this process alone.

    At the end it is removed, unless it became the copy or holds images that need not be decoded
    again. Raises `OSError` if it cannot be written.
    """
    workspace = folder.with_name(f"{folder.name}{PART}")

    def waiting() -> None:
        done, total = progress_of(workspace)
        tell_progress(f"waiting for another process that reads {name}", done, total)

    try:
        with held(workspace, waiting), _removed_at_end(workspace):
            yield workspace
    except NoLocksError:  # then each process makes a copy, and the first stays
        own = Path(tempfile.mkdtemp(prefix="writing-", suffix=".tmp", dir=folder.parent))
        with _removed_at_end(own):
            yield own


@contextmanager
def _removed_at_end(workspace: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if not has_progress(workspace) or workspace.suffix != PART:
            shutil.rmtree(workspace, ignore_errors=True)


def _empty(workspace: Path) -> None:
    """Remove what a killed process left, but for the lock."""
    for path in workspace.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def content_key(fingerprint: str) -> str:
    """Return the name of a copy that is named after its content."""
    return f"arrays-{fingerprint}"


def publish(workspace: Path, folder: Path) -> None:
    """Rename the workspace to its final name, unless an intact copy has that name."""
    workspace.chmod(0o755)
    try:
        workspace.rename(folder)
    except OSError:
        if open_copy("", folder.name.removesuffix(f"-{FORMAT}"), [folder.parent]):
            return
        shutil.rmtree(folder)
        workspace.rename(folder)
    (folder / DONE).unlink(missing_ok=True)


def _write(workspace: Path, data: ImageData) -> None:
    for array in ARRAYS:
        path = workspace / f"{array}.npy"
        if not path.exists() or path.name.endswith("labels.npy"):  # images may lie there already
            np.save(path, getattr(data, array))
    about = {
        "name": data.name,
        "class_names": data.class_names,
        "fingerprint": data.fingerprint,
        "mean": data.mean,
        "std": data.std,
    }
    (workspace / ABOUT).write_text(json.dumps(about, indent=1))
    for path in workspace.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _image_data(name: str, arrays: CheckedArrays, fingerprint: str | None) -> ImageData:
    mean, std = _mean_std(arrays.train_images)
    return ImageData(
        name=name,
        class_names=arrays.class_names,
        train_images=arrays.train_images,
        train_labels=arrays.train_labels,
        test_images=arrays.test_images,
        test_labels=arrays.test_labels,
        fingerprint=fingerprint or content_hash(arrays),
        mean=mean,
        std=std,
    )


def content_hash(arrays: CheckedArrays) -> str:
    """Hash class names, images and labels."""
    digest = hashlib.sha256(json.dumps(arrays.class_names).encode())
    for array in ARRAYS:
        value = getattr(arrays, array)
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()[:16]


def _mean_std(images: Images) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation per channel, exact because taken from histograms.

    A constant channel has standard deviation 1.
    """
    counts = np.zeros((3, 256))
    for start in range(0, len(images), 1000):
        chunk = images[start : start + 1000]
        counts += [np.bincount(chunk[..., c].ravel(), minlength=256) for c in range(3)]
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    std[std == 0] = 1
    means, stds = mean.tolist(), std.tolist()
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
