"""The sub-commands that say what there is: presets, networks, data sets, this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from grid.cli.terminal import fail, print_rich


def presets() -> None:
    """List the sweep files that ship."""
    from grid.sweep.load import read_presets

    for name, text in read_presets().items():
        print(f"{name:18} {text.splitlines()[0].lstrip('# ').removeprefix(f'{name}: ')}")


def archs(
    name: Annotated[str | None, typer.Argument(help="A network, to see its layers.")] = None,
    classes: Annotated[int, typer.Option(min=1, help="Its classes.")] = 10,
    image_size: Annotated[int | None, typer.Option(min=1, help="Its input's side, pixels.")] = None,
) -> None:
    """List the architectures with their counts (ten classes) and image sizes, or one's layers."""
    if name is not None:
        print_layers(name, classes, image_size)
        return
    from rich.console import Console
    from rich.table import Table

    from cnncore.catalog import NETWORKS, network_counts

    made = Table("architecture", box=None, header_style="bold")
    for title in ("trainable", "non-trainable", "MACs", "at side", "sides"):
        made.add_column(title, justify="right")
    for title in ("options", "standing", "what it is"):
        made.add_column(title)
    counts = network_counts()
    for name, network in NETWORKS.items():
        count = counts[name]
        made.add_row(
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
    print_rich(made, Console())


def datasets() -> None:
    """List the data sets, and whether they are on this machine."""
    from rich.console import Console
    from rich.table import Table

    from cnncore.catalog import DATASETS
    from cnncore.data import DataError, check_dataset
    from grid.api import default_data_dir

    folder = default_data_dir()
    made = Table("data set", "classes", "image size", "here", "what it is", box=None)
    for name, source in DATASETS.items():
        try:
            info = check_dataset(name, folder)
            published = source.folder or info.fingerprint is None
            here = "yes" if published else "yes, but not the published files"
        except DataError:
            here = "no"
        made.add_row(name, str(source.classes), str(source.image_size), here, source.note)
    made.add_row("imagefolder:PATH", "", "", "", "your own: a folder per class, of image files")
    made.add_row("package.module:function", "", "", "", "your own: a function that returns arrays")
    console = Console()
    print_rich(made, console)
    console.print(f"data folder: {folder}", highlight=False)


def schema() -> None:
    """Print the JSON Schema of a sweep file, for editors."""
    import json

    from grid.sweep.schema import sweep_schema

    print(json.dumps(sweep_schema(), indent=2))


def doctor() -> None:
    """Check whether this machine can run a sweep."""
    from grid.cli.doctor import examine

    wrong = 0
    for finding in examine():
        mark = "ok  " if finding.fine else "BAD "
        print(f"{mark} {finding.name:14} {finding.found}")
        if not finding.fine:
            wrong += 1
            print(f"     {'':14} -> {finding.remedy}")
    sys.exit(1 if wrong else 0)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a commented sweep file to start from."""
    from importlib import resources

    if path.exists():
        fail(f"{path}: is there already; give another name")
    text = (resources.files("grid") / "template.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror})")
    print(f"{path} written; `cnngrid plan {path}` checks it, `cnngrid run {path}` runs it")


def print_layers(arch: str, classes: int, image_size: int | None) -> None:
    """Print a fresh network's layers in the order of registration, with outputs and counts.

    `image_size` None is the smallest side that the network takes, and at least 32. A network or
    side that does not exist ends the command with a message.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cnncore.catalog import NETWORKS, check_network
    from cnncore.complexity import count_parameters, layer_table, measure_complexity
    from cnncore.models import build_model

    known = NETWORKS.get(arch)
    side = image_size or max(known.smallest if known else 0, 32)
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
    count, cost = count_parameters(model), measure_complexity(model, side)
    table.add_section()
    table.add_row("total", "", "", f"{count.trainable:,}", f"{count.non_trainable:,}")
    print_rich(table, Console())
    print(
        f"{arch}, {classes} classes, {side}x{side} pixels: "
        f"{count.trainable + count.non_trainable:,} parameters in all, {cost.macs:,} MACs"
    )


def _count(elements: int) -> str:
    return f"{elements:,}" if elements else ""
