"""Moves a draft of a project into its folder, all or nothing, beside what is there already."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferplate.errors import InferplateError
from inferplate.signals import temporary_folder, undisturbed


def check_destination(destination: Path) -> None:
    """Raise an error if a file or a link to nowhere stands where a folder is to be."""
    for path in (destination, *destination.parents):
        if path.is_dir():
            return
        if path.is_symlink() or path.exists():
            raise InferplateError(f"{path} is not a folder: choose another destination")


@contextmanager
def appearing(destination: Path) -> Iterator[Path]:
    """Give a folder to write to; what is in it appears at the destination when all has gone well.

    It is made beside what is there already, so that it appears by renaming. What is there stays.

    Raises:
        InferplateError: it cannot be written; the destination is as before.
    """
    target = destination.resolve()
    there = nearest_folder(target)
    try:
        with temporary_folder(".inferplate-", there) as draft:
            yield draft / target.relative_to(there)
            with undisturbed():
                _move(draft, there)
    except OSError as error:
        raise InferplateError(f"cannot write {destination}: {error.strerror}") from None


def nearest_folder(path: Path) -> Path:
    """Return the folder itself if there is one, or the nearest above it."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def overwritten(draft: Path, destination: Path) -> list[str]:
    """List the files at the destination that differ from those of the draft with their names.

    Raises:
        InferplateError: something there cannot be kept beside the draft, such as a file where the
            draft has a folder.
    """
    found = []
    for path in sorted(draft.rglob("*")):
        name = path.relative_to(draft)
        there = destination / name
        if not os.path.lexists(there):
            continue
        if path.is_dir():
            if there.is_symlink() or not there.is_dir():
                raise InferplateError(f"{there} is not a folder, but must be one: move it away")
        elif there.is_dir():
            raise InferplateError(f"{there} is a folder, but must be a file: move it away")
        elif there.is_symlink() or there.read_bytes() != path.read_bytes():
            found.append(name.as_posix())
    return found


def leave_out(draft: Path, destination: Path) -> None:
    """Remove from the draft every file that the destination has already."""
    for path in sorted(draft.rglob("*")):
        if not path.is_dir() and os.path.lexists(destination / path.relative_to(draft)):
            path.unlink()


def _move(draft: Path, there: Path) -> None:
    """Move everything out of the draft; move it back if that fails half way."""
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in _moves(draft, there):
            source.rename(target)
            moved.append((source, target))
    except OSError:
        for source, target in reversed(moved):
            target.rename(source)
        raise


def _moves(draft: Path, there: Path) -> Iterator[tuple[Path, Path]]:
    for source in sorted(draft.iterdir()):
        target = there / source.name
        if not os.path.lexists(target):
            yield source, target
        elif source.is_dir() and target.is_dir() and not target.is_symlink():
            yield from _moves(source, target)
        else:
            raise FileExistsError(17, "it has appeared meanwhile", str(target))
