"""Runs the command line."""

from typing import NoReturn

from inferplate.entry import start


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    start("inferplate", "inferplate.cli")


if __name__ == "__main__":
    main()
