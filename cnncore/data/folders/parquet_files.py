"""Pictures in the rows of Parquet files: `parquet:PATH`, a file or a folder of shards.

The layout is that of Hugging Face's image data sets: a struct of `bytes` and `path`, and a label
whose names the schema may tell (https://huggingface.co/docs/datasets/image_dataset).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnncore.data.errors import DataError
from cnncore.data.folders.description import and_more, shown
from cnncore.data.folders.listed_rows import (
    check_train,
    find_column,
    number_classes,
    parse_options,
    split_notes,
    splits_of,
    unknown_split,
)
from cnncore.data.folders.parquet_rows import Columns, read_columns, read_values
from cnncore.data.folders.picture_list import PictureList, make_list
from cnncore.data.folders.places import EITHER, Place, Row, find_path

PREFIX = "parquet:"
# `train-00000-of-00002`: the split, the shard's number and their count.
SHARD = re.compile(r"(?P<stem>.*?)[-_.]?(?P<number>\d+)-of-(?P<count>\d+)")


def list_parquet(
    name: str, data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the pictures of `parquet:PATH`, in the order of the shards' names and of their rows.

    The split of a shard follows from its name or folder, or of a row from a column of splits.
    Without a test split a fixed, stratified fifth of the training pictures becomes it. Raises
    `DataError` with shard, row and column of what cannot be used.
    """
    path, options = parse_options(name, PREFIX, ("image", "label", "split"))
    root = find_path(name, path, data_dir, EITHER)
    shards = _shards(name, root)
    first = _same_columns(name, shards)
    image = _image_column(name, first, options.get("image"))
    label = _label_column(name, first, options.get("label"))
    split = find_column(name, "split", first.texts, options.get("split"), needed=False)
    by_name = {} if split or root.is_file() else _splits_by_name(name, root, shards)
    labels = {shard: read_values(shard, label) for shard in shards}
    classes, number = _classes(name, label, labels, first.class_names.get(label))
    members: dict[str, list[tuple[Place, int]]] = {}
    kinds: dict[str, str] = {}
    for shard in shards:
        own = labels[shard]
        words = read_values(shard, split) if split else [by_name.get(shard, "train")] * len(own)
        kinds |= _split_kinds(name, shard, split, words)
        for row, (word, value) in enumerate(zip(words, own, strict=True)):
            members.setdefault(kinds[word], []).append((Row(shard, row, image), number[value]))
    check_train(name, kinds)
    told = split or by_name
    notes = split_notes(f"values of {split}" if split else "names of files", kinds if told else {})
    return make_list(
        name,
        classes,
        members,
        roots,
        index=f"parquet\0{root}",
        skip_unreadable=skip_unreadable,
        notes=[f"column {shown(image)} as image, {shown(label)} as label", *notes],
    )


def _shards(name: str, root: Path) -> list[Path]:
    """Return the Parquet files of a data set, by name. Raises `DataError` if one is missing."""
    if root.is_file():
        return [root]
    found = sorted(root.rglob("*.parquet"))
    shards = [path for path in found if not any(p[0] == "." for p in path.relative_to(root).parts)]
    if not shards:
        raise DataError(f"{name}: there is no *.parquet file in {root}")
    numbers: dict[tuple[Path, str, int], set[int]] = {}
    for path in shards:
        if match := SHARD.fullmatch(path.stem):
            key = (path.parent, match["stem"], int(match["count"]))
            numbers.setdefault(key, set()).add(int(match["number"]))
    for (_, stem, count), present in numbers.items():
        if missing := sorted(set(range(count)) - present):
            raise DataError(
                f"{name}: of the {count:,} files {shown(stem)}-*-of-{count:05} in {root}, "
                f"{len(missing):,} are missing, such as number {missing[0]}; download them again"
            )
    return shards


def _same_columns(name: str, shards: Sequence[Path]) -> Columns:
    """Return the columns of all files, which must be the same in each."""
    first = read_columns(shards[0])
    for shard in shards[1:]:
        own = read_columns(shard)
        if (own.every, own.class_names) != (first.every, first.class_names):
            raise DataError(
                f"{name}: {shown(shards[0].name)} and {shown(shard)} differ in their columns "
                f"({shown(', '.join(first.every))}; {shown(', '.join(own.every))}) or in the names "
                "of their classes, so they are not of one data set: name the folder of one"
            )
    return first


def _image_column(name: str, columns: Columns, chosen: str | None) -> str:
    if chosen is None and len(columns.pictures) == 1:
        return columns.pictures[0]
    if not columns.pictures:
        raise DataError(
            f"{name}: no column holds pictures, as bytes or as a struct with `bytes`; its columns: "
            f"{shown(', '.join(columns.every))}"
        )
    column = find_column(name, "image", columns.pictures, chosen)
    assert column is not None  # needed
    return column


def _label_column(name: str, columns: Columns, chosen: str | None) -> str:
    possible = (*columns.texts, *columns.numbers)
    if chosen is None and len(told := [item for item in possible if item in columns.class_names]):
        possible = tuple(told)
        if len(told) == 1:
            return told[0]
    column = find_column(name, "label", possible, chosen)
    assert column is not None  # needed
    return column


def _splits_by_name(name: str, root: Path, shards: Sequence[Path]) -> dict[Path, str]:
    """Return the word for a split in each file's or folder's name; empty if no name has one."""
    stems = {}
    for path in shards:
        match = SHARD.fullmatch(path.stem)
        stems[path] = match["stem"] if match else path.stem
    folders = {path: path.parent.name for path in shards if path.parent != root}
    for words in (stems, folders):
        kinds = splits_of(list(words.values()))
        with_split = [path for path in shards if words.get(path) in kinds]
        if len(with_split) == len(shards):
            return words
        if with_split:
            others = [shown(path.relative_to(root)) for path in shards if path not in with_split]
            raise DataError(
                f"{name}: {shown(with_split[0].relative_to(root))} is named like a split, but not "
                f"{and_more(others)}; move those elsewhere or rename them"
            )
    return {}


def _split_kinds(
    name: str, shard: Path, column: str | None, words: Sequence[str | None]
) -> dict[str, str]:
    """Return the split of each word. Raises `DataError` with the row of one that is none."""
    if column is None and set(words) == {"train"}:
        return {"train": "train"}
    kinds = dict(splits_of([word for word in words if word]))
    for row, word in enumerate(words):
        if not word or word not in kinds:
            problem = unknown_split(word) if word else "is empty"
            raise DataError(
                f"{name}: row {row + 1:,} of {shown(shard.name)}, column {shown(column)}: {problem}"
            )
    return kinds


def _classes(
    name: str, column: str, labels: Mapping[Path, list[Any]], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the classes, and the label of each value of the column.

    A value is the number of one of `names`, or else a name or a number of its own.
    """
    for shard, values in labels.items():
        for row, value in enumerate(values):
            known = value is not None and value != ""
            if not known or (names and not 0 <= value < len(names)):
                most = f"; they go from 0 to {len(names) - 1}" if names else ""
                raise DataError(
                    f"{name}: row {row + 1:,} of {shown(shard.name)}, column {shown(column)}: "
                    f"{'is empty' if not known else f'no class has the number {value}'}{most}"
                    "; pictures without a label cannot be used, leave their file away"
                )
    if names:
        return names, {number: number for number in range(len(names))}
    found = {value for values in labels.values() for value in values}
    classes = number_classes([str(value) for value in found])
    return classes, {value: classes.index(str(value)) for value in found}
