"""Pictures decoded per second and core, against torchvision's; and how soon a data set is open.

20,000 JPEGs of three sizes are made from the flowers (`--data`, a folder with `flowers/`): 600
different pictures, each many times with a comment of its own, so that no two files are equal. They
are decoded to 64 pixels, on as many threads or workers as there are cores.

- `ours`: from the list of files to a memory-mapped file, every file read and hashed.
- `torchvision`: `ImageFolder` with `Resize` and `CenterCrop`, read by a `DataLoader` whose workers
  have started.

Then whole processes, Python's start included, open all 20,000: for the first time, again as the
plan does it (each file is looked at), again as a trial does it, and after one picture was added.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import (
    RESULTS,
    Side,
    environment,
    interleave,
    ratios,
    serve,
    summary,
    write_csv,
)
from cnncore.processors import machine_cpus

PIXELS = 64
# Sizes that photographs in public data sets have; ImageNet's are 500x375 in the median.
SIZES = ((500, 375), (320, 240), (640, 480))
DIFFERENT = 600
CLASSES = 10
# Pictures of all starts, and of a measurement of the rate.
ALL, MEASURED = 20_000, 1_500
ROUNDS, STARTS = 5, 5
# No round of the rate begins after this time.
LIMIT_S = 120.0
SIDES = ("ours", "torchvision", "ours_again")
# Goals of this project: no slower than torchvision; a second start within a second.
GOALS: dict[str, float] = {"ratio": 1.0, "start_s": 1.0}

OPEN = """
import sys
from cnncore.data import check_dataset, load_dataset
name, cache, planned = sys.argv[1:]
planned = planned or check_dataset(name, cache, {pixels}).fingerprint
data = load_dataset(name, cache, {pixels}, fingerprint=planned)
assert len(data.train_images) + len(data.test_images) >= {pictures}
print(planned)
"""


def make_pictures(folder: Path, flowers: Path, count: int) -> None:
    """Write `count` different JPEGs below a folder, in classes."""
    from PIL import Image

    sources = sorted(path for path in flowers.rglob("*") if path.is_file())[:: 4_317 // DIFFERENT]
    encoded = []
    for number, path in enumerate(sources[:DIFFERENT]):
        with Image.open(path) as image:
            scaled = image.convert("RGB").resize(SIZES[number % len(SIZES)])
        content = io.BytesIO()
        scaled.save(content, "JPEG", quality=90)
        encoded.append(content.getvalue())
    for number in range(count):
        kind = folder / f"class{number % CLASSES}"
        kind.mkdir(parents=True, exist_ok=True)
        content_bytes = with_comment(encoded[number % len(encoded)], number)
        (kind / f"{number:06}.jpg").write_bytes(content_bytes)


def with_comment(jpeg: bytes, number: int) -> bytes:
    """Return a JPEG with a number as its comment (a segment COM after the first marker)."""
    text = f"{number:08}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def ours(folder: Path) -> Callable[[], float]:
    """Return a measurement of the pictures that a core decodes in a second."""
    from cnncore.data.folders.decoding import read_images
    from cnncore.data.folders.imagefolder import list_folder
    from cnncore.data.framing import Framing

    with tempfile.TemporaryDirectory() as cache:
        pictures = list_folder(f"imagefolder:{folder}", Path(cache), [Path(cache)])

    def measure() -> float:
        with tempfile.TemporaryDirectory() as workspace:
            started = perf_counter()
            read_images(pictures, Framing(PIXELS), Path(workspace))
            return len(pictures.places) / (perf_counter() - started) / machine_cpus()

    return measure


def theirs(folder: Path) -> Callable[[], float]:
    """Return the same measurement of torchvision's `ImageFolder` and a `DataLoader`."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    transform = Compose([Resize(PIXELS), CenterCrop(PIXELS), PILToTensor()])
    dataset: Any = ImageFolder(str(folder), transform)
    loader = DataLoader(dataset, 128, num_workers=machine_cpus(), persistent_workers=True)

    def measure() -> float:
        started = perf_counter()
        for _ in loader:
            pass
        return len(dataset) / (perf_counter() - started) / machine_cpus()

    return measure


def opened(folder: Path, cache: Path, pictures: int, planned: str) -> tuple[float, float, str]:
    """Open the data set in a process of its own; return wall and CPU seconds, and fingerprint."""
    code = OPEN.format(pixels=PIXELS, pictures=pictures)
    command = [sys.executable, "-c", code, f"imagefolder:{folder}", str(cache), planned]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall_s, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, output.strip()


def rates(folder: Path, rounds: int, *, idle: bool) -> list[dict[str, Any]]:
    """Return the rows of pictures per second and core."""
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(
                Side(
                    *("benchmarks.training.bench_decode", name, "--folder", str(folder)), threads=1
                )
            )
            for name in SIDES
        }
        values = interleave(sides, rounds, limit_s=LIMIT_S, idle=idle)
    rows: list[dict[str, Any]] = []
    for name in SIDES:
        row = {"what": name, "against": "", "unit": "pictures_per_s_and_core"}
        rows.append(row | summary(values[name]))
    for other in SIDES[1:]:
        row = {"what": "ours", "against": other, "unit": "ratio"}
        goal = {"goal": GOALS["ratio"]} if other == "torchvision" else {}
        rows.append(row | summary(ratios(values, "ours", other)) | goal)
    return rows


def starts(folder: Path, pictures: int, count: int) -> list[dict[str, Any]]:
    """Return the rows of how long it takes until a data set is open."""
    times: dict[str, list[tuple[float, float, str]]] = {}
    with tempfile.TemporaryDirectory() as cache:

        def take(what: str, planned: str = "") -> str:
            times.setdefault(what, []).append(opened(folder, Path(cache), pictures, planned))
            return times[what][-1][2]

        planned = take("first start")
        for _ in range(count):
            take("second start, plan")
            take("second start, trial", planned)
        for number in range(count):
            one = next((folder / "class0").glob("*.jpg")).read_bytes()
            added = with_comment(one, pictures + number)
            (folder / "class0" / f"added{number}.jpg").write_bytes(added)
            take("one picture added")
    rows = []
    for what, values in times.items():
        goal = {"goal": GOALS["start_s"]} if what.startswith("second") else {}
        for unit, of_unit in (("s", 0), ("cpu_s", 1)):
            row = {"what": what, "against": "", "unit": unit}
            rows.append(row | summary([float(value[of_unit]) for value in values]) | goal)
    return rows


def main() -> None:
    """Run the benchmark, or serve as one of its sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pictures, printed only")
    parser.add_argument("--data", default=os.environ.get("CNNGRID_DATA", "data"))
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.side:
        measure = theirs if arguments.side == "torchvision" else ours
        serve(measure(arguments.folder))
        return
    pictures, rounds, count = (1_000, 1, 1) if arguments.quick else (ALL, ROUNDS, STARTS)
    flowers = Path(arguments.data) / "flowers"
    if not flowers.is_dir():
        sys.exit(f"there is no folder {flowers}; name the data folder by --data or CNNGRID_DATA")
    with tempfile.TemporaryDirectory(prefix="cnngrid-decode-") as work:
        measured = min(MEASURED, pictures)
        make_pictures(Path(work) / "measured", flowers, measured)
        rows = [
            {"pictures": measured} | row
            for row in rates(Path(work) / "measured", rounds, idle=not arguments.quick)
        ]
        make_pictures(Path(work) / "all", flowers, pictures)
        rows += [
            {"pictures": pictures} | row for row in starts(Path(work) / "all", pictures, count)
        ]
    about = {"pixels": PIXELS, "workers": machine_cpus()}
    path = None if arguments.quick else RESULTS / "decode.csv"
    libraries = ("torch", "torchvision", "numpy", "pillow")
    write_csv(path, [about | row | environment(libraries) for row in rows])


if __name__ == "__main__":
    main()
