"""Folders that hold the splits of a data set, told by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from cnncore.data.errors import DataError

SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# Words that may stand beside a split's, apart or grown together with it: `training_set`, `testset`.
BESIDE = (
    *("datasets", "dataset", "data", "sets", "set", "split", "part", "folder", "dir", "files"),
    *("images", "image", "imgs", "img", "pictures", "picture", "pics", "pic", "photos", "photo"),
    *("samples", "sample", "seg", "final", "full", "all", "new", "raw"),
)
# A word is capitals, or small letters with or without one capital, or letters of other scripts.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
GROWN_TOGETHER = re.compile(rf"({'|'.join(SPLIT_WORDS)})({'|'.join(BESIDE)})")


def find_splits(
    name: str, root: object, folders: Sequence[str], holds_pictures: Callable[[str], bool]
) -> dict[str, str]:
    """Return the folder of each split, train and test and perhaps val; empty if all are classes.

    `holds_pictures` tells if a folder has pictures directly inside. Raises `DataError` for folders
    of which some look like splits but that are not one train and one test.
    """
    kinds = split_kinds(folders)
    if not kinds:
        return {}
    others = [folder for folder in folders if folder not in kinds]
    if len(kinds) == 1 and len(others) > 1 and holds_pictures(next(iter(kinds))):
        return {}  # such as the class `train` beside `bus` and `car`
    found: dict[str, str] = {}
    for folder, kind in kinds.items():
        if kind in found:
            raise DataError(
                f"{name}: {root}: {found[kind]} and {folder} would both be {kind}; put their "
                "images into one folder or move one elsewhere"
            )
        found[kind] = folder
    taken = ", ".join(f"{folder} is named like {kind}" for kind, folder in found.items())
    if missing := [split for split in ("train", "test") if split not in found]:
        raise DataError(
            f"{name}: {root} holds {', '.join(folders)}; expected either train and test (and val) "
            f"with the classes inside, or the classes themselves. {taken}, but there is no "
            f"{' and no '.join(missing)}: rename the folders, or name the one whose folders are "
            "the classes; if it is a class, give it another name, such as the_class"
        )
    if others:
        raise DataError(
            f"{name}: {root} also holds {', '.join(others)} ({taken}); move its images into "
            f"{found['train']} or the folder elsewhere"
        )
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def split_kinds(folders: Sequence[str]) -> dict[str, str]:
    """Return the split that each folder's name speaks of, for those that look like a split's.

    Beside the split's word may stand common words, numbers, or what the folder of another split has
    as well: `asl_train` and `asl_test`.
    """
    parts = {folder: _parts(folder) for folder in folders}
    named = {folder: (kind, rest) for folder, (kind, rest) in parts.items() if kind}
    return {
        folder: kind
        for folder, (kind, rest) in named.items()
        if all(word in BESIDE or word.isdigit() for word in rest if word != "*")
        or any(rest == beside and kind != other for other, beside in named.values())
        or (len(named) == len(folders) and {"train", "test"} <= {k for k, _ in named.values()})
    }


def _parts(folder: str) -> tuple[str, tuple[str, ...]]:
    """Return the split in a folder's name, empty if none, and its words with `*` for the split's.

    Training and validation images together, such as `trainval`, are train's.
    """
    words: list[str] = []
    for word in WORD.findall(folder):
        lower = word.lower().replace("trainval", "train")
        grown = GROWN_TOGETHER.fullmatch(lower)
        words += grown.groups() if grown else (lower,)
    kinds = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if kinds == {"train", "val"}:
        kinds = {"train"}
    rest = tuple("*" if word in SPLIT_WORDS else word for word in words)
    return (kinds.pop() if len(kinds) == 1 else ""), rest
