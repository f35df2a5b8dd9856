"""The files of a published data set: are they there, are they the ones that were published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnncore.data.errors import DataError, DataMissing
from cnncore.data.sources.digests import files_digest, joint_digest


@dataclass(frozen=True)
class PublishedFiles:
    """Files in `folder` below the data folder, each with its published MD5; `origin` has them.

    Files of the same names with other content, such as a subset, are taken too; such a data set
    counts by its content and not by its name.
    """

    dataset: str
    folder: str
    md5: Mapping[str, str]
    origin: str

    def check(self, data_dir: Path) -> None:
        """Raise `DataMissing` unless every file is there."""
        folder = data_dir / self.folder
        if absent := [name for name in self.md5 if not (folder / name).is_file()]:
            raise DataMissing(
                f"data set {self.dataset}: missing in {folder}: {', '.join(absent)}. "
                f"Put there what {self.origin} has, or name another data folder with --data"
            )

    def fingerprint(self, data_dir: Path, roots: Iterable[Path]) -> str | None:
        """16 hex digits of the content; None for the published files, and where one is absent."""
        paths = [data_dir / self.folder / name for name in self.md5]
        if not all(path.is_file() for path in paths):
            return None
        found = files_digest(data_dir / self.folder, paths, roots, "md5")
        return None if found == joint_digest(self.md5.items()) else found

    def fetch(self, data_dir: Path, download: Callable[[str], object]) -> None:
        """See that every file is there; `download` is given the data folder where one is not."""
        try:
            self.check(data_dir)
        except DataMissing as missing:
            fetch(data_dir, missing, download)
            self.check(data_dir)

    def unreadable(self, data_dir: Path, name: str, error: Exception) -> DataError:
        """What to say of a file whose content is not as it must be."""
        return DataError(
            f"data set {self.dataset}: {data_dir / self.folder / name} cannot be read ({error}); "
            "delete it and run again"
        )


def fetch(data_dir: Path, missing: DataMissing, download: Callable[[str], object]) -> None:
    """Download into the data folder; raises `missing` with the reason where that fails."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        download(str(data_dir))
    except Exception as error:  # whatever the network, the disk or the archive does
        raise DataError(f"{missing} (the download failed: {error})") from error
