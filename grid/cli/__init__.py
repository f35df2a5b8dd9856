"""The command `cnngrid`."""

from __future__ import annotations


def main() -> None:
    """Run the command. Its modules are loaded by the call, so that `import grid.cli` is quick."""
    from grid.cli.app import main as run_command

    run_command()
