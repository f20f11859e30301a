"""Runs ``inferplate-bench``."""

from typing import NoReturn

from inferplate.entry import start


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    start("inferplate-bench", "inferplate_tools.bench.command")


if __name__ == "__main__":
    main()
