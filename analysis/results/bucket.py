"""Prefix of an object store, through pyarrow's filesystems; objects are read and written whole."""

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

# Objects that are read or removed at a time: each waits for the network most of its time.
PARALLEL_REQUESTS = 16
# Settings that we add unless the address has them: a small object is then one request and not
# three, and Google's client gives up before a quarter of an hour has passed.
SETTINGS = {
    "s3": {"allow_delayed_open": "true"},
    "gs": {"retry_limit_seconds": "20"},
    "gcs": {"retry_limit_seconds": "20"},
}
# Errors for which a retry does not help, with their meaning.
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
    """An object as listed; two equal entries stand for the same content."""

    size: int
    mtime_ns: int


class Bucket:
    """Objects below an address such as `s3://bucket/prefix`, by their names below it.

    A request that fails for lack of a connection is retried for `patience_s`. Every method raises
    `BucketError`. Creating a `Bucket` may ask the store for the bucket's region.
    """

    def __init__(self, address: str, patience_s: float = 0.0) -> None:
        self.address = address
        self.patience_s = patience_s
        # Retries are for a connection that worked a moment ago.
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
            files, root = fs.FileSystem.from_uri(urlunsplit(parts._replace(query=query)))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise BucketError(self._message(error)) from None
        self.files: fs.FileSystem = files
        self.root = str(root).rstrip("/")

    def check(self) -> None:
        """Raise `BucketError` if there is no such bucket, or it may not be read."""
        bucket = self.root.partition("/")[0]
        # A listing without entries does not tell.
        if self._ask(lambda: self.files.get_file_info(bucket).type) == fs.FileType.NotFound:
            raise BucketError(f"{self.address}: there is no bucket {bucket}; make it first")

    def list(self, under: str = "") -> dict[str, Entry]:
        """Return the objects below a prefix, by name."""
        prefix = f"{self.root}/{under}" if under else self.root
        infos = self._ask(
            lambda: self.files.get_file_info(
                fs.FileSelector(prefix, recursive=True, allow_not_found=True)
            )
        )
        return {
            name: Entry(info.size, info.mtime_ns)
            for info in infos
            if info.type == fs.FileType.File
            and _stays_inside(name := info.path[len(self.root) + 1 :])
        }

    def get(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""

        def read() -> bytes | None:
            try:
                with self.files.open_input_stream(f"{self.root}/{name}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
            return content

        return self._ask(read, name)

    def get_all(self, wanted: Mapping[str, Path]) -> None:
        """Download objects to files, several at a time; objects that are gone are left out."""

        def copy(name: str) -> None:
            content = self.get(name)
            if content is not None:
                _write(wanted[name], content)

        self._each(copy, wanted)

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write an object atomically."""

        def write() -> None:
            # On other filesystems a half-written file can be seen.
            atomic = self.files.type_name in ("s3", "gcs", "abfs")
            path = f"{self.root}/{name}"
            part = path if atomic else f"{path}.tmp"
            if not atomic:
                self.files.create_dir(part.rpartition("/")[0], recursive=True)
            with self.files.open_output_stream(part) as stream:
                stream.write(content)
            if not atomic:
                self.files.move(part, path)

        self._ask(write, name)

    def put_file(self, name: str, path: Path) -> None:
        """Upload a file as an object, atomically."""
        with pa.memory_map(str(path)) as file:
            self.put(name, file.read_buffer())

    def remove(self, *names: str) -> None:
        """Remove objects; those that are gone already are no error."""

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
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            for _ in pool.map(act, names):
                pass

    def _ask(self, act: Callable[[], Result], name: str = "") -> Result:
        """Send a request; if the connection is lost, retry with growing pauses."""
        started, pause_s = time.monotonic(), 0.5
        while True:
            try:
                result = act()
            except (OSError, pa.ArrowException) as error:
                waited_s = time.monotonic() - started
                final = _code(error) in FINAL or self._lost
                if final or waited_s + pause_s > self.patience_s:
                    self._lost = _code(error) not in FINAL
                    raise BucketError(self._message(error, name)) from None
            else:
                self._lost = False
                return result
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 8.0)

    def _message(self, error: Exception, name: str = "") -> str:
        """Return a short message for a pyarrow error: the object and the cause."""
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
    """Return the code of an error of Amazon's client; empty if it is not one of theirs."""
    known = re.search(r"AWS Error (\w+)", str(error))
    if known is None:
        return ""
    # For errors that Amazon's client does not know, the store's own text has the code.
    own = re.search(r"\b(ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch)\b", str(error))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", own.group(1)).upper() if own else known.group(1)


def _stays_inside(name: str) -> bool:
    """Return whether a file of this name lies inside the folder it is copied to."""
    parts = name.split("/")
    return bool(name) and not {"", ".", ".."} & set(parts) and not set("\\\0") & set(name)


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically; two writers at once do not disturb each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PurePosixPath(path).name}.{id(content)}.{time.monotonic_ns()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
