"""Rows of a list of pictures (path, label, split): columns by their names, classes, splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cnncore.data.errors import DataError
from cnncore.data.folders.description import shown, taken_as_splits
from cnncore.data.folders.split_folders import SPLIT_WORDS, split_kinds
from cnncore.spelling import closest_hint

# Usual names of the columns, in small letters with underscores.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "relative_path"),
        *("image", "img", "image_path", "img_path", "image_file", "image_name", "img_name"),
        *("picture", "image_id", "images"),
    ),
    "image": ("image", "img", "images", "picture", "bytes", "jpg", "png"),
    "label": (
        *("label", "labels", "class", "class_name", "classname", "class_id", "category"),
        *("target", "y", "species", "diagnosis", "fine_label", "coarse_label"),
    ),
    "split": ("split", "set", "subset", "partition", "phase", "usage", "data_set", "dataset"),
}


SPLITS = ("train", "val", "test")


def split_options(rest: str) -> tuple[str, str]:
    """Return path and options of what follows the prefix: `FILE?label=COLUMN&split=COLUMN`."""
    path, _, text = rest.rpartition("?")
    return (path, text) if path and "=" in text else (rest, "")


def parse_options(name: str, prefix: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the path of `csv:PATH?label=COLUMN&split=COLUMN` and its options.

    Raises `DataError` for an option that is not among `known`.
    """
    path, text = split_options(name.removeprefix(prefix))
    options: dict[str, str] = {}
    for part in text.split("&") if text else ():
        key, _, value = part.partition("=")
        if key not in known or not value or key in options:
            raise DataError(
                f"{name}: after `?` stand columns as {known[0]}=NAME, joined by `&`, got "
                f"{shown(part)!r}{closest_hint(key, known)}; known: {', '.join(known)}"
            )
        options[key] = value
    return path, options


def find_column(
    name: str, role: str, columns: Sequence[str], chosen: str | None, *, needed: bool = True
) -> str | None:
    """Return the column of this role: the chosen one, or the only one with a usual name.

    Raises `DataError` if there is none that is `needed`, or more than one.
    """
    listed = ", ".join(map(shown, columns))
    if chosen is not None:
        if chosen in columns:
            return chosen
        raise DataError(
            f"{name}: there is no column {shown(chosen)!r}{closest_hint(chosen, columns)}; its "
            f"columns: {listed}"
        )
    usual = [column for column in columns if _plain(column) in COLUMN_NAMES[role]]
    if len(usual) == 1:
        return usual[0]
    choice = f"name it as `?{role}=COLUMN` after the path"
    if usual:
        raise DataError(
            f"{name}: {' and '.join(map(shown, usual))} may each be the column of the {role}; "
            f"{choice}, such as ?{role}={usual[0]}"
        )
    if not needed:
        return None
    raise DataError(
        f"{name}: no column is named like a {role} ({', '.join(COLUMN_NAMES[role][:6])}, ...); "
        f"its columns: {listed or 'none'}; {choice}"
    )


def _plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", column.strip().lower())


def number_classes(values: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in the order of their labels: whole numbers by value, else by name."""
    found = set(values)
    if all(re.fullmatch(r"-?(0|[1-9]\d*)", value) for value in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def splits_of(values: Sequence[str]) -> Mapping[str, str]:
    """Return the split (train, val, test) of each value that is named like one."""
    return split_kinds(list(dict.fromkeys(values)))


def unknown_split(value: str) -> str:
    """Describe a value of a split column that is no split."""
    hint = closest_hint(value.lower(), SPLIT_WORDS)
    return f"unknown split {shown(value)!r}{hint}; known: {', '.join(SPLIT_WORDS)}"


def check_train(name: str, found: Mapping[str, str]) -> None:
    """Raise `DataError` unless one of the splits (by value) is train."""
    if found and "train" not in found.values():
        raise DataError(
            f"{name}: no picture is for training; its splits: {', '.join(map(shown, found))}"
        )


def split_notes(what: str, found: Mapping[str, str]) -> list[str]:
    """Say which values of `what` were taken for which split, and where test pictures come from.

    `found` are the splits by value; none if there is no word on splits.
    """
    words: dict[str, list[str]] = {}
    for value, kind in found.items():
        words.setdefault(kind, []).append(value)
    ordered = {kind: " and ".join(words[kind]) for kind in SPLITS if kind in words}
    notes = [taken_as_splits(what, ordered)] if found else []
    if "test" not in words:
        none = "no test split" if found else "no splits"
        notes.append(
            f"{none}: a fifth of the training images of each class is the test split, another "
            "one once images are added or removed"
        )
    return notes
