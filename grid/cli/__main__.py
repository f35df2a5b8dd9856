"""Entry point of `python -m grid.cli`, which is the command `cnngrid`."""

from grid.cli import main

if __name__ == "__main__":
    main()
