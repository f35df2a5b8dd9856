"""The sub-commands that list presets and data sets, print the schema, check the machine
and write a first sweep file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from grid.cli.terminal import fail, print_rich, write_errors
from grid.screen import open_console, print


def presets() -> None:
    """List the sweep files that come with cnngrid."""
    from grid.sweep.load import read_presets

    for name, text in read_presets().items():
        print(f"{name:18} {text.splitlines()[0].lstrip('# ').removeprefix(f'{name}: ')}")


def datasets() -> None:
    """List the data sets and say if they are on this machine."""
    from rich.table import Table

    from cnncore.catalog import DATASETS
    from cnncore.data import DataError, check_dataset
    from cnncore.data.sources.torchvision_table import SETS
    from grid.api import default_data_dir

    data_dir = default_data_dir()
    table = Table("data set", "classes", "image size", "here", "what it is", box=None)
    for name, source in DATASETS.items():
        try:
            info = check_dataset(name, data_dir)
            published = source.folder or info.fingerprint is None
            available = "yes" if published else "yes, but not the published files"
        except DataError:
            available = "no"
        table.add_row(name, str(source.classes), str(source.image_size), available, source.note)
    table.add_row("torchvision:NAME", "", "", "", f"torchvision's own: {', '.join(SETS)}")
    table.add_row("imagefolder:PATH", "", "", "", "your own: a folder per class, of image files")
    table.add_row("csv:FILE", "", "", "", "your own: a line per image, with path, label and split")
    table.add_row("parquet:PATH", "", "", "", "your own: Hugging Face's layout, a file or shards")
    table.add_row("package.module:function", "", "", "", "your own: returns arrays or Datasets")
    console = open_console()
    print_rich(table, console)
    console.print(f"data folder: {data_dir}", highlight=False)


def schema() -> None:
    """Print the JSON Schema of a sweep file, for editors."""
    import json

    from grid.sweep.schema import sweep_schema

    print(json.dumps(sweep_schema(), indent=2))


def doctor() -> None:
    """Check if this machine can run a sweep."""
    from grid.cli.doctor import check_machine

    failures = 0
    for result in check_machine():
        print(f"{'ok  ' if result.ok else 'BAD '} {result.name:14} {result.detail}")
        if not result.ok:
            failures += 1
            print(f"     {'':14} -> {result.remedy}")
    sys.exit(1 if failures else 0)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a commented sweep file to start from."""
    from importlib import resources

    if path.exists():
        fail(f"{path}: exists already; give another name")
    text = (resources.files("grid") / "template.yaml").read_text(encoding="utf-8")
    with write_errors(path):
        path.write_text(text, encoding="utf-8")
    print(f"{path} written; `cnngrid plan {path}` checks it, `cnngrid run {path}` runs it")
