"""Runs ``inferplate-verify``."""

from typing import NoReturn

from inferplate.entry import start


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    start("inferplate-verify", "inferplate_tools.verify.command")


if __name__ == "__main__":
    main()
