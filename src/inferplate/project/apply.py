"""Carries out an update, all or nothing."""

from contextlib import suppress
from pathlib import Path

from inferplate.project.conflicts import record
from inferplate.project.plan import Plan
from inferplate.signals import undisturbed


def apply(plan: Plan) -> None:
    """Change the files of the project; HEAD stays, so that git shows what changed.

    The index stays as well, but for files in conflict: it has both sides of them.

    Raises:
        InferplateError, KeyboardInterrupt: it did not come to an end; the project is as before.
    """
    if not plan.patch:
        return
    git, prefix = plan.project.repository, plan.project.prefix
    index = Path(git.text("rev-parse", "--path-format=absolute", "--git-path", "index"))
    before = index.read_bytes()
    git.raw("apply", "--check", "--whitespace=nowarn", "-", given=plan.patch)
    try:
        git.raw("apply", "--whitespace=nowarn", "-", given=plan.patch, shielded=True)
        if plan.sides:
            record(git, {f"{prefix}{path}": sides for path, sides in plan.sides.items()})
    except BaseException:
        with undisturbed():
            index.write_bytes(before)
            _restore(plan)
        raise


def _restore(plan: Plan) -> None:
    git, prefix = plan.project.repository, plan.project.prefix
    touched = {
        f"{prefix}{name}"
        for change in plan.changes
        for name in (change.path, change.moved_from)
        if name
    }
    tracked = git.fields("ls-files", "-z", "--", f"./{prefix}")
    changed = "".join(f"{path}\0" for path in touched.intersection(tracked))
    for path in touched.difference(tracked):
        (git.folder / path).unlink(missing_ok=True)
        with suppress(OSError):
            for parent in (git.folder / path).relative_to(git.folder).parents:
                (git.folder / parent).rmdir()
    given = changed.encode("utf-8", "surrogateescape")
    git.raw("checkout-index", "--force", "-z", "--stdin", given=given, shielded=True)
