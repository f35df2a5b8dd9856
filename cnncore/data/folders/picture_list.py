"""A data set as a list of pictures with labels: what every reader of pictures returns.

A reader (a folder, a CSV file, a Parquet file) finds the pictures, their labels and splits. From
here on all of them go one way: facts by picture, fingerprint, description, decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnncore.data.arrays import TEST_FRACTION, TEST_SPLIT_SEED, Labels
from cnncore.data.copies.image_files import Keys
from cnncore.data.errors import DataError
from cnncore.data.file_digests import joint_digest
from cnncore.data.folders.description import and_more, describe, shown
from cnncore.data.folders.picture_index import read_pictures
from cnncore.data.folders.pictures import Picture, Ranges, change, find_ranges
from cnncore.data.folders.places import Place, file_of, full_name
from cnncore.data.stratify import stratified_split

Labelled = tuple[tuple[Place, int], ...]


@dataclass(frozen=True)
class PictureList:
    """The pictures of both splits and their labels, in a fixed order.

    The last `validation` of `train` are those of a validation split. `contents` and `notes` tell a
    person what was found. `skipped` counts unreadable pictures that are left out. `listed` says
    that the pictures come from a list, so their names tell nothing of their format. `facts` are
    those of each picture.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled
    validation: int
    skipped: int
    ranges: Ranges
    fingerprint: str
    contents: str
    notes: tuple[str, ...]
    facts: Mapping[Place, Picture] = field(compare=False, repr=False)
    listed: bool = False

    @property
    def places(self) -> list[Place]:
        """Places of all pictures, those for training first."""
        return [place for place, _ in (*self.train, *self.test)]

    def labels(self) -> tuple[Labels, Labels]:
        """Return the labels of the pictures for training and for test."""
        train, test = (
            np.array([label for _, label in own], np.int64) for own in (self.train, self.test)
        )
        return train, test

    def pixel_keys(self) -> Keys:
        """Return for each place what its pixels follow from, at one size and by one decoder."""
        keys = []
        for place in self.places:
            picture = self.facts[place]
            if how := change(picture, self.ranges):
                keys.append(hashlib.sha256(f"{picture.sha256}\0{how}".encode()).digest()[:16])
            else:
                keys.append(bytes.fromhex(picture.sha256)[:16])
        return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


def split_up(splits: Mapping[str, Labelled]) -> tuple[Labelled, Labelled]:
    """Return the pictures for training, those of a validation split at their end, and for test.

    Without a test split a fixed, stratified fifth of the training pictures becomes it.
    """
    train, val, test = (splits.get(split, ()) for split in ("train", "val", "test"))
    if not test:
        labels = np.array([label for _, label in train], np.int64)
        kept, held_out = stratified_split(labels, TEST_FRACTION, TEST_SPLIT_SEED)
        train, test = tuple(train[i] for i in kept), tuple(train[i] for i in held_out)
    return train + val, test


def make_list(
    name: str,
    classes: Sequence[str],
    splits: Mapping[str, Sequence[tuple[Place, int]]],
    roots: Iterable[Path],
    *,
    index: object,
    skip_unreadable: bool = False,
    notes: Sequence[str] = (),
    place_name: Callable[[Place], str] = full_name,
) -> PictureList:
    """Return the list of a reader that knows each picture's label and split (train, val, test).

    Each picture is read once (`read_pictures`); `index` names the cache of its facts. The
    fingerprint counts content, class, split and order, but no name or place. Raises `DataError`
    for fewer than two classes or unreadable pictures, unless they are left out.
    """
    check_classes(name, classes, splits)
    every = [place for members in splits.values() for place, _ in members]
    pictures = read_pictures(
        name,
        index,
        every,
        roots,
        key=lambda place: full_name(place),
        fully=skip_unreadable,
        listed=True,
    )
    bad = [place for place in every if pictures[place].problem]
    if bad and not skip_unreadable:
        listed = [f"{shown(place_name(place))} ({pictures[place].problem})" for place in bad]
        raise unreadable(name, listed)
    whole = {
        split: tuple((place, label) for place, label in members if not pictures[place].problem)
        for split, members in splits.items()
    }
    if bad:
        check_classes(name, classes, whole)
    train, test = split_up(whole)
    used = {place: pictures[place] for place, _ in (*train, *test)}
    ranges = find_ranges(used.values())
    validation = len(whole.get("val", ()))
    return PictureList(
        name=name,
        classes=tuple(classes),
        train=train,
        test=test,
        validation=validation,
        skipped=len(bad),
        ranges=ranges,
        fingerprint=_fingerprint(classes, whole, pictures, ranges),
        facts=used,
        listed=True,
        **describe(
            classes=classes,
            train=[place for place, _ in train],
            test=[place for place, _ in test],
            validation=validation,
            files=len(set(map(file_of, every))),
            passed=(),
            pictures=used,
            labels=dict((*train, *test)),
            ranges=ranges,
            split_notes=notes,
        ),
    )


def unreadable(name: str, problems: Sequence[str]) -> DataError:
    """Return the error for pictures that cannot be read."""
    return DataError(
        f"{name}: cannot read {and_more(problems, '; ')}; remove or replace what is damaged, or "
        "leave it out with --skip-unreadable"
    )


def check_classes(
    name: str, classes: Sequence[str], splits: Mapping[str, Sequence[tuple[Place, int]]]
) -> None:
    """Raise `DataError` unless two classes or more have a picture for training."""
    trained = {label for _, label in splits.get("train", ())}
    if len(trained) > 1:
        return
    only = ", ".join(shown(classes[label]) for label in sorted(trained)) or "none"
    raise DataError(
        f"{name}: the training pictures must be of two classes or more, got {len(trained)}: {only}"
    )


def _fingerprint(
    classes: Sequence[str],
    splits: Mapping[str, Labelled],
    pictures: Mapping[Place, Picture],
    ranges: Ranges,
) -> str:
    """Return 16 hex digits that change with a picture, its class, its split, order or decoding."""
    lines = [("class", item) for item in classes]
    for split in ("train", "val", "test"):
        for place, label in splits.get(split, ()):
            how = change(pictures[place], ranges)
            lines.append((split, f"{label}\0{pictures[place].sha256}\0{how}"))
    return joint_digest(lines)
