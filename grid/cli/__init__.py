"""The command `cnngrid`."""

from __future__ import annotations


def main() -> None:
    """Run the command; its modules are loaded only then."""
    from grid.cli.app import main as run_command

    run_command()
