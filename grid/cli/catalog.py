"""The sub-commands that list presets, networks and data sets, print the schema, check the machine
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


def archs(
    name: Annotated[str | None, typer.Argument(help="A network, to list its layers.")] = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of its classes.")] = 10,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of its input, in pixels.")
    ] = None,
) -> None:
    """List the networks with their counts (ten classes) and image sizes, or the layers of one."""
    if name is not None:
        _print_layers(name, classes, image_size)
        return
    from rich.table import Table

    from cnncore.catalog import NETWORKS, network_counts

    table = Table("architecture", box=None, header_style="bold")
    for title in ("trainable", "non-trainable", "MACs", "at side", "sides"):
        table.add_column(title, justify="right")
    for title in ("options", "standing", "what it is"):
        table.add_column(title)
    counts = network_counts()
    for name, network in NETWORKS.items():
        count = counts[name]
        table.add_row(
            name,
            f"{count.trainable:,}",
            f"{count.non_trainable:,}",
            f"{count.macs / 1e6:,.1f} M",
            str(count.image_size),
            f"{network.smallest}-{network.largest or ''}",
            ", ".join(network.options),
            network.standing,
            network.note,
        )
    print_rich(table, open_console())


def datasets() -> None:
    """List the data sets and say if they are on this machine."""
    from rich.table import Table

    from cnncore.catalog import DATASETS
    from cnncore.data import DataError, check_dataset
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
    table.add_row("imagefolder:PATH", "", "", "", "your own: a folder per class, of image files")
    table.add_row("package.module:function", "", "", "", "your own: a function that returns arrays")
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


def _print_layers(arch: str, classes: int, image_size: int | None) -> None:
    """Print a fresh network's layers in the order of registration, with outputs and counts.

    Without `image_size`, the side is the smallest that the network accepts, and at least 32. An
    unknown network or an unsuitable side ends the command with a message.
    """
    from rich.table import Table
    from rich.text import Text

    from cnncore.catalog import NETWORKS, check_network
    from cnncore.complexity import count_parameters, layer_table, measure_complexity
    from cnncore.models import build_model

    network = NETWORKS.get(arch)
    side = image_size or max(network.smallest if network else 0, 32)
    if problem := check_network(arch, side, {}):
        fail(problem)
    try:
        model = build_model(arch, classes=classes, image_size=side)
    except ValueError as problem:
        fail(str(problem))
    table = Table("layer", "type", box=None, header_style="bold")
    for title in ("output", "trainable", "non-trainable"):
        table.add_column(title, justify="right")
    for layer in layer_table(model, side):
        shape = layer.output_shape
        table.add_row(
            Text(layer.name),
            layer.type,
            "" if shape is None else "x".join(map(str, shape)),
            _count(layer.trainable),
            _count(layer.non_trainable),
        )
    count, complexity = count_parameters(model), measure_complexity(model, side)
    table.add_section()
    table.add_row("total", "", "", f"{count.trainable:,}", f"{count.non_trainable:,}")
    print_rich(table, open_console())
    macs = "MACs not known" if complexity.macs is None else f"{complexity.macs:,} MACs"
    print(
        f"{arch}, {classes} classes, {side}x{side} pixels: "
        f"{count.trainable + count.non_trainable:,} parameters in all, {macs}"
    )


def _count(elements: int) -> str:
    """Return a count with thousands separators; empty for zero."""
    return f"{elements:,}" if elements else ""
