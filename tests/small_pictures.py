"""The same small pictures for every reader: a folder, a CSV file, Parquet shards."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("cat", "dog", "emu")
COUNTS = {"train": 6, "val": 2, "test": 3}


def write_pictures(root: Path, counts: dict[str, int] = COUNTS) -> list[tuple[str, str, str]]:
    """Write a folder of pictures of other shapes than square; return path, class and split."""
    random = np.random.default_rng(1)
    rows = []
    for split, count in counts.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (10 + i, 12, 4), dtype=np.uint8)
                path = f"{split}/{name}/{i}.png".lstrip("/")
                Image.fromarray(pixels).save(root / path)
                rows.append((path, name, split))
    return rows


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], head: str = "path,label,split") -> str:
    path.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    return f"csv:{path}"


def write_parquet(root: Path, pictures: Path, rows: list[tuple[str, str, str]]) -> str:
    """Write two shards for each split, as Hugging Face's `datasets` does."""
    feature = {"names": CLASSES, "_type": "ClassLabel"}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
    root.mkdir()
    for split in sorted({split for _, _, split in rows}):
        own = sorted((name, Path(path)) for path, name, its in rows if its == split)
        images = [{"bytes": (pictures / path).read_bytes(), "path": path.name} for _, path in own]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        labels = pa.array([CLASSES.index(name) for name, _ in own], pa.int64())
        table = pa.table({"image": pa.array(images, kind), "label": labels})
        table = table.replace_schema_metadata({b"huggingface": json.dumps(info).encode()})
        middle = len(own) // 2
        word = {"val": "validation"}.get(split, split)
        for i, part in enumerate((table.slice(0, middle), table.slice(middle))):
            pq.write_table(part, root / f"{word}-{i:05}-of-00002.parquet", row_group_size=4)
    return f"parquet:{root}"


def three(tmp_path: Path) -> list[str]:
    rows = write_pictures(tmp_path / "own")
    return [
        f"imagefolder:{tmp_path / 'own'}",
        write_csv(tmp_path / "own/list.csv", rows[::-1]),
        write_parquet(tmp_path / "shards", tmp_path / "own", rows),
    ]
