"""Data sets of the user's own functions: every answer comes from a fresh process.

So nothing that a function changes in its process (threads, working folder, random states) or ends
(`sys.exit`, a crash) reaches a trial, and an answer that depends on the process is noticed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cnncore.data.arrays import ImageArrays, checked
from cnncore.data.cache import (
    ImageData,
    content_hash,
    content_key,
    copy_folder,
    make_copy,
    open_copy,
    publish,
)
from cnncore.data.errors import DataError
from cnncore.data.folders.description import single_images
from cnncore.data.pixel_layout import as_array, understand
from cnncore.data.sources.items import arrays_of, find_datasets
from cnncore.data.sources.kinds import PICTURE_READERS
from cnncore.data.sources.user_function import call
from cnncore.error_text import error_line, own_line
from cnncore.fresh_process import fresh_process
from cnncore.functions import check_function_name
from cnncore.spelling import closest_hint

IMAGES, LABELS = ("train_images", "test_images"), ("train_labels", "test_labels")


@dataclass(frozen=True)
class Answer:
    """The answer of a fresh process: the problem, or the fingerprint of the arrays.

    `understood` says what the arrays were taken for, if they were not uint8 with channels last.
    """

    problem: str | None = None
    fingerprint: str = ""
    understood: str = ""


def open_own_data(name: str, roots: list[Path], fingerprint: str | None = None) -> ImageData:
    """Return the data set of a user's function; `roots` are the folders of decoded copies.

    With `fingerprint` the content must be that one, and the function is called only if there is no
    copy of it here. Without, the function is called, and once more unless an earlier process got
    the same content. Raises `DataError` if it fails or its content differs.
    """
    if fingerprint and (copy := open_copy(name, content_key(fingerprint), roots)):
        return copy
    if "@" in name:
        raise DataError(
            f"data set {name}: data count by their content, not by a version of their code; leave "
            "the @ out"
        )
    if problem := _misspelt(name) or check_function_name(name):
        raise DataError(f"data set {problem}")
    for root in [*roots, Path(tempfile.gettempdir())]:
        with _staging(root) as staging:
            if staging is None:
                continue
            asked = _ask(name, staging, roots)
            found, notes = asked.fingerprint, (asked.understood,) if asked.understood else ()
            if fingerprint not in (None, found):
                raise DataError(
                    f"data set {name}: its function returns other data (fingerprint {found}) than "
                    f"when the sweep was planned ({fingerprint}); put the data back, or run the "
                    "sweep again, which plans it with the new data"
                )
            key = content_key(found)
            if copy := open_copy(name, key, roots):
                return replace(copy, notes=notes)
            folder = copy_folder(staging, key)
            if not folder.is_dir():  # the disk is full
                continue
            if fingerprint is None:
                _ask_again(name, found, staging, roots)
            if root in roots:
                publish(folder, copy_folder(root, key))
            # Files that are mapped stay after their folder is removed.
            if copy := open_copy(name, key, [root if root in roots else staging]):
                return replace(copy, notes=notes)
    raise DataError(f"data set {name}: no disk has room for its decoded copy")


def _misspelt(name: str) -> str | None:
    """Return the problem with a name whose module is not there and is spelt like a prefix."""
    word = name.partition(":")[0]
    hint = closest_hint(word, PICTURE_READERS)
    if not hint or "." in word or importlib.util.find_spec(word):
        return None
    return f"{name}: there is no kind of data set and no module {word!r}{hint}"


def remarks(data: ImageData) -> tuple[str, ...]:
    """Return what a person may not expect of the arrays."""
    train, test = ([hash(image.tobytes()) for image in images]
                   for images in (data.train_images, data.test_images))  # fmt: skip
    known = set(train)
    notes = single_images(data.class_names, [*data.train_labels, *data.test_labels])
    if len({*train, *test}) == 1:
        return ("all images are equal; pixel values go from 0 to 255, are yours scaled to 0..1?",)
    if again := sum(image in known for image in test):
        notes.append(
            f"{again:,} of {len(test):,} test images are also training images, so the test "
            "accuracy is too high"
        )
    if data.train_images.max() <= 1:
        notes.append("no pixel value is above 1; they go from 0 to 255, are yours scaled to 0..1?")
    return tuple(notes)


def answer(name: str, staging: str, *roots: str) -> None:
    """Call the function in this process; store its arrays in `staging` unless a root has them."""
    try:
        plain, understood = plain_arrays(name, call(name))
        arrays = checked(name, plain)
    except DataError as problem:
        result = Answer(problem=str(problem))
    else:
        result = Answer(fingerprint=content_hash(arrays), understood=understood)
        key = content_key(result.fingerprint)
        if open_copy(name, key, [Path(root) for root in roots]) is None:
            make_copy(name, key, result.fingerprint, [Path(staging)], lambda _: vars(arrays))
    _answer_file(staging).write_text(json.dumps(asdict(result)))


def plain_arrays(name: str, value: Any) -> tuple[Any, str]:
    """Return what a function returned as uint8 arrays, and what it was taken for, in words.

    It may be arrays or tensors, or map-style data sets. What is neither is returned as it is, for
    `checked` to name. Raises `DataError` for images that could be meant in two ways.
    """
    datasets = find_datasets(value)
    if datasets:
        value = _of_items(name, datasets)
    if isinstance(value, ImageArrays):
        value = {key: own for key, own in vars(value).items() if own is not None}
    if not isinstance(value, Mapping):
        return value, ""
    images = {key: value[key] for key in IMAGES if value.get(key) is not None}
    labels = {key: as_array(name, key, value[key]) for key in LABELS if value.get(key) is not None}
    understood = understand(name, images)
    how = understood.how
    if datasets:
        how = f"items of {type(datasets['train']).__name__}; {how}".removesuffix("; ")
    return {**value, **labels, **understood.images}, how


def _of_items(name: str, datasets: Mapping[str, Any]) -> ImageArrays:
    """Return the items of a user's data sets; whatever it raises becomes a `DataError`."""
    try:
        return arrays_of(name, datasets)
    except DataError:
        raise
    except Exception as error:
        place = f" ({line})" if (line := own_line(error)) else ""
        raise DataError(f"data set {name}: {error_line(error)}{place}") from error


def _ask(name: str, staging: Path, roots: list[Path]) -> Answer:
    """Call the function in a fresh process; return its content's fingerprint."""
    arguments = [name, str(staging), *map(str, roots)]
    command = fresh_process("cnncore.data.own_data:answer", *arguments)
    # What the function prints is none of the command's own output.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2)
    try:
        result = Answer(**json.loads(_answer_file(staging).read_text()))
    except FileNotFoundError:
        code = done.returncode
        end = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        raise DataError(
            f"data set {name}: its process ended with {end} before the function returned"
        ) from None
    if result.problem:
        raise DataError(result.problem)
    _answer_file(staging).unlink()
    return result


def _ask_again(name: str, found: str, staging: Path, roots: list[Path]) -> None:
    """Raise `DataError` if a second process, begun in another second, gets other content."""
    time.sleep(1 - time.time() % 1)  # a seed from the clock, too, is another one then
    again = _ask(name, staging, roots).fingerprint
    if again != found:
        raise DataError(
            f"data set {name}: its function returns other data each time (fingerprints {found} and "
            f"{again} in two processes), so trials would be tested on each other's training "
            "images; seed its random numbers, for example np.random.default_rng(0), sort what has "
            "no fixed order, such as sets and lists of files; random transforms belong in `augment`"
        )


def _answer_file(staging: str | Path) -> Path:
    return Path(staging) / "answer.json"


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path | None]:
    """Make a folder for unchecked copies, removed at the end; None if the disk refuses."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="writing-", suffix=".tmp", dir=root))
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
