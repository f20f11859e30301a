"""Makes a new project a git repository with a first commit, which every update needs."""

from pathlib import Path
from typing import Final

from inferplate.git import Git, GitError

_NOBODY: Final = ("-c", "user.name=inferplate", "-c", "user.email=inferplate@localhost")
"""Who commits where git does not know the user."""


def in_repository(folder: Path, path: Path) -> bool:
    """Return whether a folder is in a git repository that does not ignore a path in it.

    A repository that git refuses to use, such as another user's, counts as one.
    """
    git = Git(folder)
    try:
        inside = git.text("rev-parse", "--is-inside-work-tree") == "true"
    except GitError as error:
        return not any(reason in str(error) for reason in ("not a git repository", "not installed"))
    return inside and not _succeeds(git, "check-ignore", "--quiet", "--", str(path))


def commit_all(folder: Path, message: str) -> None:
    """Make a folder a git repository and commit all that is in it.

    The branch is the user's ``init.defaultBranch``, or ``main``. Hooks and signatures are as the
    user has set them up.

    Raises:
        GitError: git is not installed, or refuses the commit.
    """
    git = Git(folder)
    branch = git.raw("config", "--get", "init.defaultBranch", accept=1).decode().strip()
    git.raw("init", "--quiet", f"--initial-branch={branch or 'main'}")
    git.raw("add", "--all", "--force")
    persons = ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")
    known = all(_succeeds(git, "-c", "user.useConfigOnly=true", "var", one) for one in persons)
    git.raw(*(() if known else _NOBODY), "commit", "--quiet", "--message", message)


def _succeeds(git: Git, *command: str) -> bool:
    try:
        git.raw(*command)
    except GitError:
        return False
    return True
