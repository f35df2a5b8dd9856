"""A network's layer-by-layer table, as `cnngrid archs NAME` prints it."""

from __future__ import annotations

from grid.terminal import fail, print_rich


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
