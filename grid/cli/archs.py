"""The sub-command `archs`: networks in a list, or one of them layer by layer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.cli.terminal import fail, print_rich
from grid.screen import open_console, print

if TYPE_CHECKING:
    from cnncore.complexity import Layer

Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set an option of the network; repeatable."),
]


def archs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A network, to list its layers; or a pattern, such as 'timm:resnet*'.",
        ),
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of its classes.")] = 10,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of its input, in pixels.")
    ] = None,
    options: Options = None,
) -> None:
    """List networks with their counts (ten classes) and image sizes, or the layers of one.

    A network is a name of this list, torchvision:NAME, timm:NAME, or your own module:function.
    """
    library, colon, pattern = (name or "").partition(":")
    if name is None or (not colon and any(sign in name for sign in "*?[")):
        _list_catalog(name or "*")
    elif library in ("timm", "torchvision") and (not pattern or any(s in pattern for s in "*?[")):
        _list_library(library, pattern or "*")
    else:
        _print_layers(name, classes, image_size, _read_options(options or []))


def _list_catalog(pattern: str) -> None:
    """List the networks of the catalog that match a pattern."""
    from rich.table import Table

    from cnncore.catalog import NETWORKS, network_counts

    table = Table("architecture", box=None, header_style="bold")
    for title in ("trainable", "non-trainable", "MACs", "at side", "sides"):
        table.add_column(title, justify="right")
    for title in ("options", "standing", "what it is"):
        table.add_column(title)
    counts = network_counts()
    for name, network in NETWORKS.items():
        if not fnmatchcase(name, pattern):
            continue
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
    if not table.row_count:
        fail(f"no network of the catalog matches {pattern}; `cnngrid archs` lists all")
    print_rich(table, open_console())


def _list_library(library: str, pattern: str) -> None:
    """List the networks of a library that match a pattern, with their published weights."""
    from rich.table import Table

    from cnncore.catalog import check_network

    if problem := check_network(f"{library}:{pattern}", 1, {}):
        fail(problem)
    from cnncore.models.libraries.names import design_side, known_networks, known_tags

    names = [name for name in known_networks(library) if fnmatchcase(name, pattern)]
    if not names:
        fail(f"no network of {library} matches {pattern}; `cnngrid archs '{library}:*'` lists all")
    table = Table("architecture", box=None, header_style="bold")
    table.add_column("designed for", justify="right")
    table.add_column("published weights, the default first")
    for name in names:
        side, tags = design_side(library, name), known_tags(library, name)
        table.add_row(f"{library}:{name}", f"{side} px", ", ".join(tags) or "none")
    print_rich(table, open_console())


def _read_options(changes: list[str]) -> dict[str, Any]:
    """Read `--set width=0.5` and `--set arch_options.drop_rate=0.1`; end the command if wrong."""
    from cnncore.config import NETWORK_KEYS
    from grid.errors import SweepError
    from grid.sweep.config_keys import check_value
    from grid.sweep.yaml_source import read_yaml

    options: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        outer, dot, inner = key.strip().partition(".")
        try:
            value, _ = read_yaml(text, f"--set {change}")
        except SweepError as error:
            fail(str(error))
        if equals and outer == "arch_options" and (dot or isinstance(value, dict)):
            options.update({inner: value} if dot else value)
        elif equals and key in NETWORK_KEYS:
            options[key], problems = check_value(key, value)
            if problems:
                fail(f"--set {change}: {'; '.join(problems)}")
        else:
            fail(
                f"--set {change}: write arch_options.NAME=VALUE, or KEY=VALUE with one of "
                f"{', '.join(NETWORK_KEYS)}"
            )
    return options


def _print_layers(arch: str, classes: int, image_size: int | None, options: dict[str, Any]) -> None:
    """Print a fresh network's layers in the order of registration, with outputs and counts.

    Without `image_size`, the side is that of a library's network's design, else the smallest that
    the network accepts, and at least 32. Whatever cannot be shown ends the command with a message.
    """
    from cnncore.catalog import NETWORKS, check_network, library_of
    from grid.api import use_own_modules

    use_own_modules()
    network, library = NETWORKS.get(arch), library_of(arch)
    side = image_size or max(network.smallest if network else 0, 32)
    if problem := check_network(arch, side, options):
        fail(problem)
    if library:
        from cnncore.models.libraries.check import check_library_network
        from cnncore.models.libraries.names import check_name, design_side

        if problem := check_name(arch):
            fail(problem)
        side = image_size or design_side(library, arch.partition(":")[2])
        if problem := check_library_network(arch, side, options):
            fail(problem)
    layers, parameters, macs = _measure_layers(arch, classes, side, options)
    print_rich(_layer_rows(layers), open_console())
    print(
        f"{arch}, {classes} classes, {side}x{side} pixels: {parameters:,} parameters in all, "
        f"{'MACs not known' if macs is None else f'{macs:,} MACs'}"
    )


def _measure_layers(
    arch: str, classes: int, side: int, options: dict[str, Any]
) -> tuple[list[Layer], int, int | None]:
    """Return a network's layers, its parameters and its multiply-accumulates.

    On `meta`, where nothing is computed, or else on the CPU. Problems end the command.
    """
    from cnncore.complexity import count_parameters, layer_table, measure_complexity
    from cnncore.error_text import error_line, own_line
    from cnncore.models import build_model
    from cnncore.models.on_meta import build_on_meta

    def build() -> Any:
        return build_model(arch, classes=classes, image_size=side, **options)

    for on_meta in (True, False):
        try:
            model = build_on_meta(build) if on_meta else build()
            layers = layer_table(model, side)
            macs = measure_complexity(model, side).macs
        except (Exception, SystemExit) as error:  # the user's own network may raise anything
            if on_meta:
                continue
            place = f" ({line})" if (line := own_line(error)) else ""
            ours = isinstance(error, ValueError) and not place
            fail(str(error) if ours else f"{arch}: {error_line(error)}{place}")
        else:
            break
    count = count_parameters(model)
    return layers, count.trainable + count.non_trainable, macs


def _layer_rows(layers: list[Layer]) -> Any:
    """Return the layers as a table, with their sums."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("type")
    for title in ("output", "trainable", "non-\ntrainable", "MACs"):
        table.add_column(title, justify="right")
    for layer in layers:
        shape = layer.output_shape
        table.add_row(
            Text(layer.name or "(network)"),
            layer.type,
            "" if shape is None else "x".join(map(str, shape)),
            _count(layer.trainable),
            _count(layer.non_trainable),
            _count(layer.macs or 0),
        )
    table.add_section()
    macs = [layer.macs for layer in layers if layer.macs is not None]
    table.add_row(
        "total",
        "",
        "",
        f"{sum(layer.trainable for layer in layers):,}",
        f"{sum(layer.non_trainable for layer in layers):,}",
        f"{sum(macs):,}" if len(macs) == len(layers) else "",
    )
    return table


def _count(elements: int) -> str:
    """Return a count with thousands separators; empty for zero."""
    return f"{elements:,}" if elements else ""
