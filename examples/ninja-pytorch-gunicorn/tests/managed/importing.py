"""Imports the service for tests: as it is shipped, and with stand-ins for your modules."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import service
from service.ops import logs, platforms
from service.ops.settings import PREFIX

DEVICE: Final = os.environ.get(f"{PREFIX}DEVICE", "cpu")
"""Where tests run your model: on the CPU, which CI has, or the device that SERVICE_DEVICE names."""

_STAND_INS = Path(__file__).with_name("stand_in")
_IMPORTED_ANEW = (
    *(path.stem for path in sorted(_STAND_INS.glob("[a-z]*.py"))),
    "settings",
    "dependencies",
    "app",
    "main",
    "__main__",
)


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the developer's settings and .env file out of the tests. ``folder``: an empty one."""
    for name in list(os.environ):
        if name.upper().startswith((PREFIX, "OTEL_")) or name in platforms.VARIABLES:
            patch.delenv(name)
    patch.chdir(folder)


def import_main() -> Any:
    """Import `service.main`, and leave the logs to pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "configure_logging", lambda settings: None)
        return importlib.import_module("service.main")


@dataclass(frozen=True)
class Shell:
    """The modules around core, web and ops, imported with stand-ins for yours."""

    modules: dict[str, Any]

    @property
    def main(self) -> Any:
        return self.modules["main"]

    @property
    def command_line(self) -> Any:
        return self.modules["__main__"]

    def put_into_place(self, patch: pytest.MonkeyPatch) -> None:
        """Let ``service`` have these modules: frameworks look them up by name, also later."""
        for name, module in self.modules.items():
            patch.setitem(sys.modules, f"service.{name}", module)
            patch.setattr(service, name, module, raising=False)


def import_with_stand_ins(*folders: Path) -> Shell:
    """Import the service with stand-ins for your modules, and put yours back into their place.

    ``folders``: with further stand-ins, which come before those in ``stand_in``. Your settings
    remain, with their defaults: `service.app` may use some of your own.
    """
    with pytest.MonkeyPatch.context() as patch, _forgotten(*_IMPORTED_ANEW):
        patch.setattr(service, "__path__", [*map(str, (*folders, _STAND_INS)), *service.__path__])
        settings: Any = importlib.import_module("service.settings")
        defaults = settings.OwnSettings.model_construct()
        patch.setattr(settings, "own_settings", lambda: defaults)
        import_main()
        importlib.import_module("service.__main__")
        return Shell(
            {name: vars(service)[name] for name in _IMPORTED_ANEW if hasattr(service, name)}
        )


@contextmanager
def _forgotten(*names: str) -> Iterator[None]:
    """Let modules of `service` be imported anew; afterwards they are as they were."""

    def forget() -> dict[str, tuple[Any, Any]]:
        return {
            name: (sys.modules.pop(f"service.{name}", None), vars(service).pop(name, None))
            for name in names
        }

    before = forget()
    try:
        yield
    finally:
        forget()
        for name, (module, attribute) in before.items():
            if module is not None:
                sys.modules[f"service.{name}"] = module
            if attribute is not None:
                setattr(service, name, attribute)
