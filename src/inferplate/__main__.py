"""Runs the command line, which Ctrl-C ends with one line from the first moment."""

import sys
from typing import Final

_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from inferplate.cli import run

        code = run()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        sys.stderr.write("inferplate: interrupted\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
