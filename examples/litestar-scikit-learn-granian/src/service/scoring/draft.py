"""The unfinished result of a run, in a folder beside it, and where the run can go on.

The folder holds the lines so far, the refused ones, and a state: how many rows they are of, and
how long the files were then. The state is replaced as a whole, after the lines are on the disk. So
a run that is killed goes on from the last state: what was written after it is cut off.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from service.scoring.errors import CannotScore

Convert = Callable[[BinaryIO, Path], None]
"""Writes the result that is made of lines."""

_FORMAT: Final = 1


def refused_path(output: Path) -> Path:
    """Return where the refused rows of a result are."""
    return output.with_name(f"{output.name}.refused.jsonl")


class Draft:
    """A result that is being written. ``keeps``: whether the run can go on from it.

    ``rows`` and ``refused``: how many rows of IN its lines are of, and how many of them were
    refused.
    """

    def __init__(self, output: Path, *, keeps: bool) -> None:
        self._output: Final = output
        self._folder: Final = output.with_name(f"{output.name}.draft")
        self._lines_path: Final = self._folder / "lines"
        self._refused_path: Final = self._folder / "refused"
        self._state_path: Final = self._folder / "state.json"
        self._keeps: Final = keeps
        self._run: Mapping[str, Any] = {}
        self._lines: BinaryIO | None = None
        self._refused: BinaryIO | None = None
        self.rows = 0
        self.refused = 0

    def clear(self) -> None:
        """Remove an unfinished result and a finished one."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._output.unlink(missing_ok=True)
        refused_path(self._output).unlink(missing_ok=True)

    def recorded(self) -> Mapping[str, Any] | None:
        """Return what the unfinished run was a run of, None if there is none.

        Raises:
            CannotScore: there is one that cannot be read, or a finished result.
        """
        if self._output.exists() and not self._lines_path.exists():
            shutil.rmtree(self._folder, ignore_errors=True)  # it was killed as the last thing
        if not self._state_path.exists():
            if self._output.exists():
                raise CannotScore(f"{self._output} exists: --overwrite replaces it")
            return None
        try:
            state = json.loads(self._state_path.read_bytes())
            if state["format"] != _FORMAT:
                raise ValueError("another format")
            run: Mapping[str, Any] = state["run"]
        except (ValueError, KeyError, TypeError):
            raise CannotScore(
                f"{self._state_path} is not that of this version: --overwrite begins anew"
            ) from None
        return run

    def open(self, run: Mapping[str, Any], header: bytes) -> None:
        """Begin, or go on with what was recorded. ``run``: what it is a run of."""
        self._run = run
        if self._state_path.exists():
            state = json.loads(self._state_path.read_bytes())
            self.rows, self.refused = state["rows"], state["refused"]
            sizes = state["sizes"]
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            sizes = [0, 0]
        self._lines = _cut_off(self._lines_path, sizes[0])
        self._refused = _cut_off(self._refused_path, sizes[1])
        if not sizes[0]:
            self._lines.write(header)
            self.keep()

    def add(self, lines: Iterable[bytes], refused: Iterable[bytes], rows: int, count: int) -> None:
        """Add lines. ``rows``: of how many rows they are; ``count``: how many were refused."""
        files = self._open_files()
        files[0].writelines(lines)
        files[1].writelines(refused)
        self.rows += rows
        self.refused += count

    def keep(self) -> None:
        """Bring all lines to the disk, so that the run can go on after them."""
        if not self._keeps:
            return
        sizes = []
        for file in self._open_files():
            file.flush()
            os.fsync(file.fileno())
            sizes.append(file.tell())
        state = {
            "format": _FORMAT,
            "run": self._run,
            "rows": self.rows,
            "refused": self.refused,
            "sizes": sizes,
        }
        written = self._state_path.with_suffix(".new")
        with written.open("wb") as new:
            new.write(json.dumps(state).encode("ascii"))
            new.flush()
            os.fsync(new.fileno())
        written.replace(self._state_path)

    def close(self) -> None:
        """Close the files; remove them if the run cannot go on."""
        for file in (self._lines, self._refused):
            if file is not None:
                file.close()
        self._lines = self._refused = None
        if not self._keeps:
            shutil.rmtree(self._folder, ignore_errors=True)

    def finish(self, convert: Convert | None) -> None:
        """Make the result of the lines. ``convert``: writes it in a format of its own.

        A run that is killed meanwhile goes on here: its rows are all there.
        """
        self.keep()
        for file in self._open_files():
            file.close()
        self._lines = self._refused = None
        refused = refused_path(self._output)
        finished = self._lines_path
        if convert is not None:
            finished = self._folder / "converted"
            with self._lines_path.open("rb") as lines:
                convert(lines, finished)
        if self.refused:
            copy = self._folder / "refused.copy"
            shutil.copyfile(self._refused_path, copy)
            copy.replace(refused)
        else:
            refused.unlink(missing_ok=True)
        finished.replace(self._output)
        shutil.rmtree(self._folder)

    def _open_files(self) -> tuple[BinaryIO, BinaryIO]:
        if self._lines is None or self._refused is None:
            raise ValueError("the draft is not open")
        return self._lines, self._refused


def _cut_off(path: Path, size: int) -> BinaryIO:
    """Open a file behind its first ``size`` bytes, and cut off the others.

    Raises:
        CannotScore: it has less.
    """
    path.touch()
    file = path.open("r+b")
    if file.seek(0, os.SEEK_END) < size:
        file.close()
        raise CannotScore(f"{path} is shorter than it was: --overwrite begins anew")
    file.truncate(size)
    file.seek(size)
    return file


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
