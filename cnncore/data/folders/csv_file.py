"""A CSV file with a line per picture: `csv:FILE`, its path, label and perhaps split."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
from cnncore.data.folders.picture_list import PictureList, make_list
from cnncore.data.folders.places import Place, find_path
from cnncore.regular_file import check_regular

PREFIX = "csv:"
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Line:
    """One line of the file: its number from 1, and its cells of the three columns."""

    number: int
    path: str
    label: str
    split: str | None


def list_csv(
    name: str, data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the pictures of `csv:FILE`; its paths are absolute or below the file's own folder.

    Pictures are ordered by class and path, so the order of the lines changes nothing. Without a
    test split a fixed, stratified fifth of the training pictures becomes it. Raises `DataError`
    with the lines and columns of what cannot be used.
    """
    path, options = parse_options(name, PREFIX, ("path", "label", "split"))
    file = find_path(name, path, data_dir, "file")
    lines, columns = _read(name, file, options)
    problems = list(_problems(file.parent, lines, columns))
    if problems:
        raise DataError(f"{name}: {and_more(problems, '; ')}")
    classes = number_classes([line.label for line in lines])
    order = {item: label for label, item in enumerate(classes)}
    kinds = splits_of([line.split for line in lines if line.split is not None])
    check_train(name, kinds)
    members: dict[str, list[tuple[Place, int]]] = {}
    for line in sorted(lines, key=lambda line: (order[line.label], Path(line.path))):
        split = kinds[line.split] if line.split is not None else "train"
        members.setdefault(split, []).append((file.parent / line.path, order[line.label]))
    numbers = {file.parent / line.path: line.number for line in lines}
    return make_list(
        name,
        classes,
        members,
        roots,
        index=f"csv\0{file}",
        skip_unreadable=skip_unreadable,
        notes=[
            f"column {shown(columns['path'])} as path, {shown(columns['label'])} as label",
            *split_notes(f"values of {shown(columns.get('split', ''))}", kinds),
        ],
        place_name=lambda place: f"{place} (line {numbers[Path(str(place))]})",
    )


def _read(name: str, file: Path, options: dict[str, str]) -> tuple[list[Line], dict[str, str]]:
    """Return the file's lines, and the names of its columns by role."""
    try:
        check_regular(file)
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{name}: {file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise DataError(f"{name}: line {number} is not UTF-8; save the file as UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = list(_rows(name, reader))
    if not rows:
        raise DataError(f"{name}: the file is empty; its first line names the columns")
    header = [cell.strip() for cell in rows[0][1]]
    if twice := sorted({item for item in header if item and header.count(item) > 1}):
        raise DataError(f"{name}: two columns are called {shown(twice[0])!r}; rename one")
    columns: dict[str, str] = {}
    for role in ("path", "label", "split"):
        column = find_column(name, role, header, options.get(role), needed=role != "split")
        if column is not None:
            columns[role] = column
    if len(set(columns.values())) < len(columns):
        raise DataError(f"{name}: path, label and split must be three columns")
    at = {role: header.index(column) for role, column in columns.items()}
    lines = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{name}: line {number} has {len(cells)} columns, and the first line "
                f"{len(header)}; put quotation marks around what holds a {delimiter!r}"
            )
        cell = {role: cells[index].strip() for role, index in at.items()}
        lines.append(Line(number, cell["path"], cell["label"], cell.get("split")))
    return lines, columns


def _rows(name: str, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not blank, each with the number of its first line."""
    number = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{name}: line {number}: {error}") from None
        if any(cell.strip() for cell in cells):
            yield number, cells
        number = reader.line_num + 1  # type: ignore[attr-defined]  # of `csv.reader`


def _problems(folder: Path, lines: list[Line], columns: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with the cells, each with line and column."""
    kinds = splits_of([line.split for line in lines if line.split])
    first: dict[str, Line] = {}
    for line in lines:
        where = {role: f"line {line.number}, column {shown(columns[role])}" for role in columns}
        for role, cell in (("path", line.path), ("label", line.label), ("split", line.split)):
            if cell == "":
                yield f"{where[role]}: is empty"
        if line.split and line.split not in kinds:
            yield f"{where['split']}: {unknown_split(line.split)}"
        if not line.path:
            continue
        twin = first.setdefault(os.path.normpath(folder / line.path), line)
        if twin is not line:
            yield f"{where['path']}: {shown(line.path)} {_twice(twin, line)}"
        elif not (folder / line.path).is_file():
            yield f"{where['path']}: there is no file {shown(folder / line.path)}"
    if not lines:
        yield "there is no line below the first, which names the columns"


def _twice(twin: Line, line: Line) -> str:
    """Describe a picture that stands in two lines."""
    if twin.split != line.split:
        return f"is {shown(line.split)} here and {shown(twin.split)} in line {twin.number}"
    if twin.label != line.label:
        return f"is {shown(line.label)} here and {shown(twin.label)} in line {twin.number}"
    return f"stands in line {twin.number} too; remove one of them"
