"""What was found in a data set of pictures, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from cnncore.data.folders.pictures import Picture, Ranges
from cnncore.data.folders.places import Place, name_of, suffix_of

MOST_NAMED = 3


class Description(TypedDict):
    """One line on the contents, and a remark for everything that a person may not expect."""

    contents: str
    notes: tuple[str, ...]


def describe(
    *,
    classes: Sequence[str],
    train: Sequence[Place],
    test: Sequence[Place],
    validation: int,
    files: int,
    passed: Sequence[str],
    pictures: Mapping[Place, Picture],
    labels: Mapping[Place, int],
    ranges: Ranges,
    split_notes: Sequence[str],
) -> Description:
    """Describe a data set of pictures; `passed` names files and links that are not used."""
    sizes = sorted({(item.width, item.height) for item in pictures.values()}, key=_area)
    size = f"{_size(sizes[0])} pixels"
    if len(sizes) > 1:
        size = f"{_size(sizes[0])} to {_size(sizes[-1])} pixels ({len(sizes):,} sizes)"
    suffixes = _counts(map(shown, suffix_of(list(pictures)))) or "Parquet"
    modes = _counts(item.mode for item in pictures.values())
    own_val = f", {validation:,} for validation" if validation else ""
    contents = (
        f"{_counted(len(pictures), 'image')} of {_counted(files, 'file')} in {len(classes):,} "
        f"classes: {len(train) - validation:,} for training{own_val}, {len(test):,} for test; "
        f"{suffixes}; {size}; modes {modes}"
    )
    notes = [
        *split_notes,
        *single_images(classes, labels.values()),
        *_decoding_notes(list(pictures.values()), ranges),
        *_copies(train, test, pictures, labels, classes),
    ]
    if passed:
        names = and_more(list(map(shown, passed)))
        notes.append(
            f"{_counted(len(passed), 'file')} not used: no picture that can be read, hidden, "
            f"beside the classes' folders, or a link back up ({names})"
        )
    return {"contents": contents, "notes": tuple(notes)}


def and_more(names: Sequence[str], between: str = ", ") -> str:
    """Return the first names and the number of the others."""
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def shown(name: object) -> str:
    """Return a name from a folder as text that any terminal can print on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))


MEANING = {"train": "training", "val": "validation", "test": "test"}


def taken_as_splits(what: str, splits: Mapping[str, str]) -> str:
    """Say which `what` was taken for which split; `splits` are their names by split."""
    taken = ", ".join(f"{shown(splits[key])} as {MEANING[key]}" for key in splits)
    own_val = " (val_fraction does not apply, `folds` divides both)" if "val" in splits else ""
    return f"{what} taken as splits: {taken}{own_val}"


def folder_split_notes(
    root: Path, classes: Sequence[str], splits: Mapping[str, str], labels: Mapping[Path, int]
) -> list[str]:
    """Say which folders were taken for splits, or that none was."""
    if splits:
        return [taken_as_splits("folders", splits)]
    notes = [
        "no folders of splits: a fifth of the images of each class is the test split, another one "
        "once images are added or removed"
    ]
    inner: dict[int, set[str]] = {label: set() for label in range(len(classes))}
    for path, label in labels.items():
        inner[label].add(path.relative_to(root).parts[1] if path.parent.parent != root else "")
    if len(alike := inner[0]) > 1 and all(names == alike for names in inner.values()):
        notes.append(
            f"{and_more([shown(item) for item in classes])} are taken as classes, and each holds "
            f"the folders {and_more(sorted(map(shown, alike)))}: if they are splits, name them "
            "train and test"
        )
    return notes


def _decoding_notes(pictures: Sequence[Picture], ranges: Ranges) -> list[str]:
    wide = [item for item in pictures if item.is_wide]
    floats = sum(item.mode == "F" for item in wide)
    laid = Counter(item.background for item in pictures if item.background)
    on_black = f", {laid['black']:,} of them on black, as white hides them" if laid["black"] else ""
    notes = {
        f"in grey of more than 8 bits: {_scale(ranges.integers)}": len(wide) - floats,
        f"in floating point: {_scale(ranges.floats)}": floats,
        f"with transparency: laid on white{on_black} (or on `background`)": laid.total(),
        "turned as their EXIF orientation says": sum(item.turned for item in pictures),
        "with several frames or pages: the first is used": sum(i.several for i in pictures),
    }
    return [f"{_counted(count, 'image')} {text}" for text, count in notes.items() if count]


def single_images(classes: Sequence[str], labels: Iterable[int]) -> list[str]:
    """Name the classes that have one image in all splits together."""
    counts = Counter(labels)
    if not (single := [shown(item) for label, item in enumerate(classes) if counts[label] == 1]):
        return []
    have = "has" if len(single) == 1 else "have"
    return [f"{and_more(single)} {have} one image, which cannot be in every split"]


def _copies(
    train: Sequence[Place],
    test: Sequence[Place],
    pictures: Mapping[Place, Picture],
    labels: Mapping[Place, int],
    classes: Sequence[str],
) -> list[str]:
    """Report files with the same content in train and test, or in two classes."""
    first = {pictures[path].sha256: path for path in reversed(train)}
    again = [path for path in test if pictures[path].sha256 in first]
    notes = []
    if again:
        twin = first[pictures[again[0]].sha256]
        of_class = shown(classes[labels[twin]])
        notes.append(
            f"{_counted(len(again), 'test image')} also among the training images, such as "
            f"{shown(name_of(again[0]))} and {shown(name_of(twin))} of {of_class}"
        )
    classes_of: dict[str, set[int]] = {}
    for path, label in labels.items():
        classes_of.setdefault(pictures[path].sha256, set()).add(label)
    if in_two := [item for item in classes_of.values() if len(item) > 1]:
        names = " and ".join(shown(classes[label]) for label in sorted(in_two[0])[:2])
        notes.append(f"{_counted(len(in_two), 'image')} in more than one class, such as {names}")
    return notes


def _scale(values: tuple[float, float]) -> str:
    return f"{values[0]:,.7g} to {values[1]:,.7g} become 0 to 255"


def _counts(items: Iterable[str]) -> str:
    return ", ".join(f"{count:,} {item}" for item, count in Counter(items).most_common())


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]:,}x{size[1]:,}"


def _area(size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return size[0] * size[1], size
