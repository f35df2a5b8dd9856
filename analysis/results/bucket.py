"""A prefix of an object store, through pyarrow's filesystems; objects are put and got whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

# Objects that are got or removed at a time: each waits for the network most of its time.
AT_ONCE = 16
# Settings that we add where the address says nothing: a small object is then one request and not
# three, and Google's client gives up before a quarter of an hour has passed.
SETTINGS = {
    "s3": {"allow_delayed_open": "true"},
    "gs": {"retry_limit_seconds": "20"},
    "gcs": {"retry_limit_seconds": "20"},
}
# What the store will say again however often it is asked, and what to do about it.
FINAL = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "ACCESS_DENIED": "access is denied to these credentials",
    "INVALID_ACCESS_KEY_ID": "the store does not know this access key",
    "INVALID_CLIENT_TOKEN_ID": "the store does not know this access key",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong",
    "UNRECOGNIZED_CLIENT": "the store does not know this access key",
    "EXPIRED_TOKEN": "the credentials have expired",
}

Result = TypeVar("Result")


class BucketError(Exception):
    """The object store refused or did not answer; the message names the address."""


@dataclass(frozen=True)
class Entry:
    """An object as it was listed; two that are equal are taken for the same content."""

    size: int
    mtime_ns: int


class Bucket:
    """All objects below an address such as `s3://bucket/prefix`, by their names below it.

    What fails for want of a connection is tried again for `patience_s`. Every method raises
    `BucketError`. Making the object may ask the store for the bucket's region.
    """

    def __init__(self, address: str, patience_s: float = 0.0) -> None:
        self.address = address
        self.patience_s = patience_s
        # Waiting is for a connection that was there a moment ago.
        self._lost = True
        parts = urlsplit(address)
        settings = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.password is not None or {"access_key", "secret_key"} & set(settings):
            raise BucketError(
                f"{parts.scheme}://...@{parts.hostname or ''}: credentials in an address end up "
                "in logs and lists of processes; give them by AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials"
            )
        query = urlencode({**SETTINGS.get(parts.scheme, {}), **settings}, safe=":/")
        try:
            found = fs.FileSystem.from_uri(urlunsplit(parts._replace(query=query)))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise BucketError(self._said(error)) from None
        self.files: fs.FileSystem = found[0]
        self.root = str(found[1]).rstrip("/")

    def check(self) -> None:
        """Raise `BucketError` where there is no such bucket, or it may not be read."""
        bucket = self.root.partition("/")[0]
        # A listing that finds nothing does not tell.
        if self._ask(lambda: self.files.get_file_info(bucket).type) == fs.FileType.NotFound:
            raise BucketError(f"{self.address}: there is no bucket {bucket}; make it first")

    def list(self, under: str = "") -> dict[str, Entry]:
        """The objects below a prefix, by name."""
        where = f"{self.root}/{under}" if under else self.root
        found = self._ask(
            lambda: self.files.get_file_info(
                fs.FileSelector(where, recursive=True, allow_not_found=True)
            )
        )
        return {
            name: Entry(info.size, info.mtime_ns)
            for info in found
            if info.type == fs.FileType.File and _harmless(name := info.path[len(self.root) + 1 :])
        }

    def get(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""

        def read() -> bytes | None:
            try:
                with self.files.open_input_stream(f"{self.root}/{name}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
            return content

        return self._ask(read, name)

    def get_all(self, wanted: Mapping[str, Path]) -> None:
        """Copy objects to files, several at a time; those that are gone by now are left out."""

        def copy(name: str) -> None:
            content = self.get(name)
            if content is not None:
                _write(wanted[name], content)

        self._each(copy, wanted)

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write an object, whole or not at all."""

        def write() -> None:
            # Other filesystems show a file before its end.
            whole = self.files.type_name in ("s3", "gcs", "abfs")
            path = f"{self.root}/{name}"
            part = path if whole else f"{path}.tmp"
            if not whole:
                self.files.create_dir(part.rpartition("/")[0], recursive=True)
            with self.files.open_output_stream(part) as stream:
                stream.write(content)
            if not whole:
                self.files.move(part, path)

        self._ask(write, name)

    def put_file(self, name: str, path: Path) -> None:
        """The same from a file."""
        with pa.memory_map(str(path)) as file:
            self.put(name, file.read_buffer())

    def remove(self, *names: str) -> None:
        """Remove objects, where they are there."""

        def delete(name: str) -> None:
            try:
                self.files.delete_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return

        self._each(lambda name: self._ask(lambda: delete(name), name), names)

    def remove_all(self, under: str) -> None:
        """Remove everything below a prefix."""

        def delete() -> None:
            try:
                self.files.delete_dir(f"{self.root}/{under}")
            except FileNotFoundError:
                return

        self._ask(delete, under)

    def rename(self, name: str, new: str) -> None:
        """Give an object another name."""
        self._ask(lambda: self.files.move(f"{self.root}/{name}", f"{self.root}/{new}"), name)

    def _each(self, act: Callable[[str], None], names: Iterable[str]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(act, names):
                pass

    def _ask(self, act: Callable[[], Result], name: str = "") -> Result:
        """Do it; for want of a connection again and again, a little later each time."""
        started, pause_s = time.monotonic(), 0.5
        while True:
            try:
                result = act()
            except (OSError, pa.ArrowException) as error:
                waited_s = time.monotonic() - started
                final = _code(error) in FINAL or self._lost
                if final or waited_s + pause_s > self.patience_s:
                    self._lost = _code(error) not in FINAL
                    raise BucketError(self._said(error, name)) from None
            else:
                self._lost = False
                return result
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 8.0)

    def _said(self, error: Exception, name: str = "") -> str:
        """An error of pyarrow's, short: which object, and what was the matter."""
        text = str(error).strip().partition("\n")[0]
        code = _code(error)
        if code in FINAL:
            text = FINAL[code]
        elif code:
            # "When ...: AWS Error CODE during ... operation: what; Details: what and where"
            text = text.rpartition("operation: ")[2].rpartition("Details: ")[2]
            text = re.sub(r"^curlCode: \d+, ", "", text).partition(" (Request ID")[0]
        return f"{self.address}{f': {name}' if name else ''}: {text}"


def _code(error: Exception) -> str:
    """Which of Amazon's errors it is; empty where it is none of theirs."""
    found = re.search(r"AWS Error (\w+)", str(error))
    if found is None:
        return ""
    # Those that Amazon's client does not know are told by the store's own words.
    own = re.search(r"\b(ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch)\b", str(error))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", own.group(1)).upper() if own else found.group(1)


def _harmless(name: str) -> bool:
    """Whether a file of this name lies inside the folder it is copied to."""
    parts = name.split("/")
    return bool(name) and not {"", ".", ".."} & set(parts) and not set("\\\0") & set(name)


def _write(path: Path, content: bytes) -> None:
    """Write a copy, whole or not at all; two at once do not meet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PurePosixPath(path).name}.{id(content)}.{time.monotonic_ns()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
