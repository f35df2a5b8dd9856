"""Splits, folds and subsets of labelled images in which every class keeps its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Return the indices of the larger and of the held-out part, both ascending.

    The held-out part is `fraction` of the images, rounded and at least one, spread over the
    classes by their share (largest remainders first). The result depends on the arguments alone.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} image(s) cannot be split in two")
    all_indices = np.arange(len(labels), dtype=np.int64)
    size = min(max(1, round(fraction * len(labels))), len(labels) - 1)
    held_out = stratified_subset(all_indices, labels, size, seed)
    kept = np.ones(len(labels), bool)
    kept[held_out] = False
    return all_indices[kept], held_out


def stratified_fold(
    labels: npt.NDArray[np.int64], fold: int, folds: int, seed: int
) -> tuple[Indices, Indices]:
    """Return the indices outside and inside fold `fold` (from 0) of `folds`, both ascending.

    The folds are disjoint and cover all images. Their sizes, and the sizes of every class in them,
    differ by at most one. The result depends on the arguments alone.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be 0 to {folds - 1}, got {fold}")
    inside = np.zeros(len(labels), bool)
    # Images are dealt to the folds in turn, class after class, without starting over at a class.
    inside[_by_class(labels, seed)[fold::folds]] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def stratified_subset(
    indices: Indices, labels: npt.NDArray[np.int64], n: int, seed: int
) -> Indices:
    """Return `n` of `indices`, ascending, with each class's share; all if there are fewer.

    `labels` belong to the whole array that `indices` point into.
    """
    if n >= len(indices):
        return np.sort(indices)
    own_labels = labels[indices]
    counts = np.bincount(own_labels)
    class_sizes = _apportion(counts, n)
    by_class = _by_class(own_labels, seed)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = np.concatenate(
        [by_class[start : start + k] for start, k in zip(starts, class_sizes, strict=True)]
    )
    return np.sort(indices[chosen])


def _by_class(labels: npt.NDArray[np.int64], seed: int) -> Indices:
    """Return the positions in `labels`, class after class, shuffled within each class."""
    # First a random order, then a stable sort by class.
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def _apportion(counts: npt.NDArray[np.int64], n: int) -> list[int]:
    """Divide `n` among the classes in proportion to their counts, by largest remainders.

    Ties go to the lower class.
    """
    exact = counts * n / counts.sum()
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - whole), kind="stable")[: n - int(whole.sum())]
    whole[rest] += 1
    return [int(count) for count in whole]
