"""Renders variants in this process, from a plain folder, without trust.

Copier is asked through its public function. Two things make many renders cheap: git is kept out of
sight (Copier starts it once per emitted file), and a template is compiled once per process.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from inferplate.errors import InferplateError
from inferplate.progress import step
from inferplate.template.source import QUESTIONS

if TYPE_CHECKING:
    import copier

_one_at_a_time = threading.Lock()


def snapshot(root: Path, destination: Path) -> Path:
    """Copy a template to a folder without git, so that edits cannot reach a run half way."""
    destination.mkdir(parents=True, exist_ok=True)
    (destination / QUESTIONS).write_bytes((root / QUESTIONS).read_bytes())
    junk = ignore_patterns("__pycache__", "*.py[co]", ".*_cache", ".DS_Store")
    copytree(root / "template", destination / "template", ignore=junk)
    return destination


def render(
    template: Path,
    destination: Path,
    answers: Mapping[str, Any],
    proposed: Mapping[str, Any] | None = None,
    *,
    settings: "copier.Settings | None" = None,
    ask: bool = False,
    answers_file: str | None = None,
) -> Path:
    """Render a template with these answers and defaults for the rest.

    ``proposed``: defaults that go before the template's. ``settings``: the user's own, as Copier
    loads them; they have further defaults. ``ask``: ask for the rest in the terminal, with the
    defaults to choose from. ``answers_file``: where to record the answers; none: as usual.

    Raises:
        InferplateError: an answer is refused, or the template is wrong; nothing was written then.
        KeyboardInterrupt: a question was not answered.
    """
    import copier
    from copier.errors import (
        CopierAnswersInterrupt,
        InteractiveSessionError,
        UnsupportedVersionError,
    )

    shown = nullcontext() if ask else step("Rendering the template")
    with _one_at_a_time, _git_out_of_sight(), templates_compiled_once(), shown:
        try:
            copier.run_copy(
                str(template),
                destination,
                data=dict(answers),
                user_defaults=dict(proposed or {}),
                settings=settings or copier.Settings(),
                answers_file=answers_file,
                defaults=not ask,
                quiet=True,
                unsafe=False,
            )
        except (CopierAnswersInterrupt, InteractiveSessionError):
            raise KeyboardInterrupt from None
        except UnsupportedVersionError:
            raise InferplateError(
                "this version of the template needs a newer Copier: upgrade inferplate"
            ) from None
        except Exception as error:
            raise InferplateError(" ".join(str(error).split())) from error
    return destination


@contextmanager
def _git_out_of_sight() -> Iterator[None]:
    from plumbum import local

    with local.env(PATH=""):
        yield


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """Let all renders of this process compile each template of Jinja once."""
    from jinja2 import Environment

    with patch.object(Environment, "compile", _memoised(Environment.compile)):
        yield


@cache
def _memoised(compile_source: Any) -> Any:
    """Remember what a source compiles to; the environments of one template are all alike."""
    compiled: dict[Any, Any] = {}

    def compile_once(environment: Any, source: Any, *args: Any, **kwargs: Any) -> Any:
        envops = (environment.trim_blocks, environment.lstrip_blocks, environment.undefined)
        key = (source, args, tuple(kwargs.items()), envops)
        if key not in compiled:
            compiled[key] = compile_source(environment, source, *args, **kwargs)
        return compiled[key]

    return compile_once
