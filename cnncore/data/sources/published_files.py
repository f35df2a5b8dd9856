"""The files of a published data set: check, compare with the published ones, download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnncore.data.errors import DataError, DataMissing
from cnncore.data.file_digests import files_digest, joint_digest


@dataclass(frozen=True)
class PublishedFiles:
    """Files in `folder` below the data folder, with their published MD5; `origin` offers them.

    Files of these names with other content, such as a subset, are accepted too; such a data set is
    identified by its content, not by its name.
    """

    dataset: str
    folder: str
    md5: Mapping[str, str]
    origin: str

    def check(self, data_dir: Path) -> None:
        """Raise `DataMissing` unless every file exists."""
        folder = data_dir / self.folder
        if missing := [name for name in self.md5 if not (folder / name).is_file()]:
            raise DataMissing(
                f"data set {self.dataset}: missing in {folder}: {', '.join(missing)}. "
                f"Put there the files of {self.origin}, or name another data folder with --data"
            )

    def fingerprint(self, data_dir: Path, roots: Iterable[Path]) -> str | None:
        """Return 16 hex digits of the content; None if it is as published or a file is missing."""
        paths = [data_dir / self.folder / name for name in self.md5]
        if not all(path.is_file() for path in paths):
            return None
        digest = files_digest(data_dir / self.folder, paths, roots, "md5")
        return None if digest == joint_digest(self.md5.items()) else digest

    def fetch(self, data_dir: Path, download: Callable[[str], object]) -> None:
        """Call `download` with the data folder if a file is missing; check the files again."""
        try:
            self.check(data_dir)
        except DataMissing as missing:
            fetch(data_dir, missing, download)
            self.check(data_dir)

    def unreadable(self, data_dir: Path, name: str, error: Exception) -> DataError:
        """Return the error for a file with wrong content."""
        return DataError(
            f"data set {self.dataset}: {data_dir / self.folder / name} cannot be read ({error}); "
            "delete it and run again"
        )


def fetch(data_dir: Path, missing: DataMissing, download: Callable[[str], object]) -> None:
    """Download into the data folder; if it fails, raise `DataError`: `missing` and the reason."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        download(str(data_dir))
    except Exception as error:  # errors of the network, the disk or the archive
        raise DataError(f"{missing} (the download failed: {error})") from error
