"""A folder of picture files, a sub-folder per class, with or without folders of splits above."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnncore.data.errors import DataError
from cnncore.data.file_digests import below, joint_digest
from cnncore.data.folders.description import describe, folder_split_notes, shown
from cnncore.data.folders.picture_index import read_pictures
from cnncore.data.folders.picture_list import PictureList, split_up, unreadable
from cnncore.data.folders.pictures import Picture, Ranges, change, find_ranges, suffixes
from cnncore.data.folders.places import Place, file_of, find_path
from cnncore.data.folders.split_folders import find_splits, split_kinds

# Folders that archives and file servers add; with names that begin with a dot they are passed over.
NOT_CLASSES = frozenset({"__MACOSX", "@eaDir"})


PREFIX = "imagefolder:"


def list_folder(
    name: str, data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the pictures of `imagefolder:PATH` (`list_files`)."""
    return list_files(name, name.removeprefix(PREFIX), data_dir, roots, skip_unreadable)


def list_files(
    name: str, path: str, data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the pictures of data set `name` at `path`; each file is read once (`read_pictures`).

    `path` is absolute, or below `data_dir` or the current folder. Without folders of splits a
    fixed, stratified fifth of the images is the test split. Raises `DataError` for a folder in
    another layout and, unless they are left out, for unreadable pictures.
    """
    root = find_path(name, path, data_dir, "folder")
    splits = find_splits(name, root, _folders(name, root), lambda folder: _has_files(root / folder))
    walk = _Walk(name, root)
    files = {
        split: walk.class_files(root / folder, least=2 if split == "train" else 1)
        for split, folder in (splits or {"train": ""}).items()
    }
    classes = _same_classes(name, root, splits, files)
    inside = {split: [paths for _, paths in members] for split, members in files.items()}
    every = [path for lists in inside.values() for paths in lists for path in paths]
    pictures = read_pictures(
        name, root, every, roots, key=lambda path: below(root, file_of(path)), fully=skip_unreadable
    )
    bad = [path for path in every if pictures[path].problem]
    if bad and not skip_unreadable:
        problems = [f"{shown(path)} ({pictures[path].problem})" for path in bad]
        raise unreadable(name, problems)
    labelled = {
        split: tuple(
            (path, label)
            for label, paths in enumerate(lists)
            for path in _pictures_among(name, classes[label], paths, pictures)
        )
        for split, lists in inside.items()
    }
    train, test = split_up(labelled)
    used = {place: pictures[place] for place, _ in (*train, *test)}
    ranges = find_ranges(used.values())
    passed = [path for path in every if path not in used and not pictures[path].problem]
    labels = {path: label for path, label in (*train, *test) if isinstance(path, Path)}
    return PictureList(
        name=name,
        classes=classes,
        train=train,
        test=test,
        validation=len(labelled.get("val", ())),
        skipped=len(bad),
        ranges=ranges,
        fingerprint=_fingerprint(root, used, ranges),
        facts=used,
        **describe(
            classes=classes,
            train=[path for path, _ in train],
            test=[path for path, _ in test],
            validation=len(labelled.get("val", ())),
            files=len(every) + len(walk.passed),
            passed=[str(path.relative_to(root)) for path in sorted([*passed, *walk.passed])],
            pictures=used,
            labels=dict((*train, *test)),
            ranges=ranges,
            split_notes=folder_split_notes(root, classes, splits, labels),
        ),
    )


class _Walk:
    """A walk through the classes of a folder that follows links, but into no folder twice.

    `passed` collects what is passed over: hidden files, links that lead back up, pictures beside
    the classes' folders, what is no file at all.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        self.passed: list[Path] = []
        # Folder -> the folder of a class in which it was found; None above the classes.
        self._seen: dict[tuple[int, int], Path | None] = {
            _identity(folder): None for folder in (root, *root.resolve().parents)
        }

    def class_files(self, folder: Path, least: int = 2) -> list[tuple[str, list[Path]]]:
        """Return the name and the files of every class below a folder, both in order.

        Raises `DataError` for fewer than `least` classes.
        """
        if self._seen.setdefault(_identity(folder), None) is not None:
            raise self._twice(folder, self._seen[_identity(folder)])
        classes = _folders(self.name, folder)
        if len(classes) < least:
            inner = "".join(f"; are its classes in {shown(folder / item)}?" for item in classes)
            raise DataError(
                f"{self.name}: {folder} must hold a sub-folder per class, two or more; found "
                f"{', '.join(map(shown, classes)) or 'none'}{inner}"
            )
        beside = (Path(entry.path) for entry in os.scandir(folder) if entry.is_file())
        self.passed += [path for path in beside if path.suffix.lower() in suffixes()]
        return [(name, self._files(folder / name)) for name in classes]

    def _files(self, folder: Path) -> list[Path]:
        inner = split_kinds(_folders(self.name, folder))
        if len(set(inner.values())) > 1:
            raise DataError(
                f"{self.name}: {shown(folder)} holds {', '.join(map(shown, inner))}: put the "
                f"folders of splits above those of classes, as train/{shown(folder.name)}"
            )
        files: list[Path] = []
        waiting = [folder]
        while waiting:  # links last, so that a folder counts by its own path
            for parent, folders, names in os.walk(waiting.pop(0), onerror=self._refuse):
                here = Path(parent)
                if not self._enter(here, folder):
                    folders.clear()
                    continue
                for name in names:
                    path = here / name
                    (files if _is_shown(path) else self.passed).append(path)
                self.passed += [here / name for name in folders if _is_passed_over(name)]
                folders[:] = sorted(name for name in folders if not _is_passed_over(name))
                waiting += [here / name for name in folders if (here / name).is_symlink()]
        return sorted(files, key=lambda path: path.parts)  # as paths compare, but faster

    def _enter(self, folder: Path, class_folder: Path) -> bool:
        """Note that a folder is entered; return False if it was before, as at a loop's end."""
        key = _identity(folder)
        if key not in self._seen:
            self._seen[key] = class_folder
            return True
        owner = self._seen[key]
        if owner is not None and owner != class_folder:
            raise self._twice(folder, owner)
        if owner is None:
            self.passed.append(folder)
        return False

    def _twice(self, folder: Path, owner: Path | None) -> DataError:
        return DataError(
            f"{self.name}: {shown(folder)} is a folder of {shown(owner)} too, by a link; images "
            "must not belong to two classes or two splits: remove one of the links"
        )

    def _refuse(self, error: OSError) -> None:
        raise DataError(f"{self.name}: {shown(error.filename)} cannot be read ({error.strerror})")


def _same_classes(
    name: str,
    root: Path,
    splits: dict[str, str],
    files: dict[str, list[tuple[str, list[Path]]]],
) -> tuple[str, ...]:
    """Return the classes; all splits must have the same, however accents are encoded."""
    classes = tuple(class_name for class_name, _ in files["train"])
    _check_names(name, root, classes)
    own = {unicodedata.normalize("NFC", item): item for item in classes}
    if len(own) < len(classes):
        raise DataError(
            f"{name}: {root} holds two classes whose names look alike and differ only in how "
            "accents are encoded; rename one of them"
        )
    for split in splits:
        theirs = {unicodedata.normalize("NFC", item) for item, _ in files[split]}
        if theirs != set(own) or len(theirs) < len(files[split]):
            raise DataError(
                f"{name}: {splits['train']} and {splits[split]} must have the same classes; "
                f"only in {splits['train']}: "
                f"{', '.join(map(shown, sorted(set(own) - theirs))) or 'none'}; "
                f"only in {splits[split]}: "
                f"{', '.join(map(shown, sorted(theirs - set(own)))) or 'none'}"
            )
        order = list(own)
        files[split].sort(key=lambda member: order.index(unicodedata.normalize("NFC", member[0])))
    return classes


def _check_names(name: str, root: Path, classes: Iterable[str]) -> None:
    for item in classes:
        try:
            item.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{name}: the name of the folder {shown(root / item)} is not UTF-8; rename it"
            ) from None


def _pictures_among(
    name: str, class_name: str, paths: Sequence[Path], pictures: Mapping[Place, Picture]
) -> list[Path]:
    found = [path for path in paths if pictures[path].mode and not pictures[path].problem]
    if not found:
        suffixes_found = Counter(path.suffix or "no suffix" for path in paths)
        inside = ", ".join(f"{n} {shown(suffix)}" for suffix, n in suffixes_found.most_common(3))
        raise DataError(
            f"{name}: no images in {class_name}: none of its files is a picture that can be read "
            f"({inside or 'it holds no files'})"
        )
    return found


def _fingerprint(root: Path, pictures: Mapping[Place, Picture], ranges: Ranges) -> str:
    """Return 16 hex digits that change with a file's name, class, content or decoding.

    Files that are decoded as by Pillow's `convert("RGB")` count by their content alone, as in
    earlier versions.
    """
    return joint_digest(
        (
            below(root, file_of(path)),
            f"{picture.sha256}\0{how}" if (how := change(picture, ranges)) else picture.sha256,
        )
        for path, picture in pictures.items()
    )


def _folders(name: str, root: Path) -> list[str]:
    try:
        entries = [entry for entry in os.scandir(root) if not _is_passed_over(entry.name)]
    except OSError as error:
        raise DataError(f"{name}: {shown(root)} cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path) and "." not in entry.name:
            raise DataError(
                f"{name}: {shown(entry.path)} is a link to a folder that is not there; mend or "
                "remove it"
            )
    return sorted(entry.name for entry in entries if entry.is_dir())


def _has_files(folder: Path) -> bool:
    return any(entry.is_file() and entry.name[0] != "." for entry in os.scandir(folder))


def _is_passed_over(name: str) -> bool:
    return name[0] == "." or name in NOT_CLASSES


def _is_shown(path: Path) -> bool:
    """Whether a path is a file that is not hidden; so is a link to nothing, an unreadable one."""
    try:
        return path.name[0] != "." and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return path.name[0] != "."


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
