"""Runs a command line: its errors, and Ctrl-C from the first moment, are one line each."""

import importlib
import sys
from io import TextIOWrapper
from typing import Final, NoReturn

_INTERRUPTED: Final = 130


def start(name: str, module: str) -> NoReturn:
    """Run the ``app`` of a module under a name, and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a console's encoding lacks is not an error
            stream.reconfigure(errors="replace")
    try:
        code = _run(name, module)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        sys.stderr.write(f"{name}: interrupted\n")
    sys.exit(code)


def _run(name: str, module: str) -> int:
    from typer.exceptions import Abort, TyperException

    from inferplate.errors import InferplateError

    try:
        app = importlib.import_module(module).app
        code = app(prog_name=name, standalone_mode=False)
    except InferplateError as error:
        return _tell(name, str(error), 1)
    except OSError as error:
        reason = error.strerror or str(error)
        return _tell(name, f"{error.filename}: {reason}" if error.filename else reason, 1)
    except TyperException as error:
        return _tell(name, error.format_message(), 2)
    except Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def _tell(name: str, message: str, code: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(message.split())}\n")
    return code
