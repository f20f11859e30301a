"""Carries out an update, whole or not at all."""

from contextlib import suppress

from inferplate.plan import Plan
from inferplate.signals import undisturbed


def apply(plan: Plan) -> None:
    """Change the files of the project; HEAD and the index stay, so that git shows what changed.

    Raises:
        InferplateError, KeyboardInterrupt: it did not come to an end; the project is as before.
    """
    if not plan.patch:
        return
    git = plan.project.repository
    git.raw("apply", "--check", "--whitespace=nowarn", "-", given=plan.patch)
    try:
        git.raw("apply", "--whitespace=nowarn", "-", given=plan.patch, shielded=True)
    except BaseException:
        with undisturbed():
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
