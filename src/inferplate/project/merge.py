"""Merges trees in a scratch repository that borrows the objects of the user's and changes nothing.

Git's own merge does it, so edits follow a file that either side has moved.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inferplate.git import Git, GitError

Tree = dict[str, str]
"""The files of a tree: by path, mode and object name as ``ls-tree`` has them."""

YOURS: Final = "yours"
_BASE, _OURS, _THEIRS = 1, 2, 3
_BESIDE: Final = frozenset({"file/directory", "distinct modes"})
"""Conflicts in which git gives one side another name, so that both are in the tree."""


@dataclass
class Merge:
    """What a merge came to.

    ``tree``: the result; a file in conflict is in it with markers, where it is text.
    ``conflicts``: paths, and what is the matter. ``stages``: what each side has of them, as entries
    of trees by git's number of the side. ``vanished``: files that theirs deletes and ours
    has changed; they are still in the tree. ``stay_deleted``: files that ours deleted and theirs
    has changed; they are not.
    """

    tree: Tree
    conflicts: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[int, str]] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    stay_deleted: list[str] = field(default_factory=list)


class Scratch:
    """A bare repository in a folder of its own."""

    def __init__(self, folder: Path, lender: Git) -> None:
        kind = lender.text("rev-parse", "--show-object-format")
        objects = lender.text("rev-parse", "--path-format=absolute", "--git-path", "objects")
        lender.raw(
            "init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(folder)
        )
        (folder / "objects/info").mkdir(exist_ok=True)
        (folder / "objects/info/alternates").write_text(f"{objects}\n", encoding="utf-8")
        who = {"NAME": "inferplate", "EMAIL": "inferplate@localhost"}
        persons = {f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who}
        self._index = folder / "index"
        self._git = Git.bare(folder, {**persons, "GIT_INDEX_FILE": str(self._index)})

    def read(self, tree: str) -> Tree:
        """List the files of a tree, by its object name."""
        entries = (entry.partition("\t") for entry in self._git.fields("ls-tree", "-r", "-z", tree))
        return {path: " ".join(kind.split(" ")[::2]) for kind, _, path in entries}

    def store(self, folder: Path) -> Tree:
        """Store the files of a folder."""
        self._index.unlink(missing_ok=True)
        self._git.raw(f"--work-tree={folder}", "add", "--all", "--force", "--", str(folder))
        return self.read(self._git.text("write-tree"))

    def write(self, tree: Tree) -> str:
        """Store a tree and return its object name."""
        lines = "".join(f"{entry}\t{path}\0" for path, entry in tree.items())
        self._index.unlink(missing_ok=True)
        given = lines.encode("utf-8", "surrogateescape")
        self._git.raw("update-index", "-z", "--index-info", given=given)
        return self._git.text("write-tree")

    def content(self, entry: str) -> bytes:
        """Return the bytes of one file of a tree."""
        return self._git.raw("cat-file", "blob", entry.split(" ")[1])

    def merge(self, base: Tree, ours: Tree, theirs: Tree, their_name: str) -> Merge:
        """Merge what ours and theirs have made of the base.

        Raises:
            GitError: git cannot.
        """
        root = self._commit(base)
        branches = {YOURS: ours, their_name: theirs}
        for name, tree in branches.items():
            self._git.raw("update-ref", f"refs/heads/{name}", self._commit(tree, "-p", root))
        command = ("merge-tree", "--write-tree", "-z", "--messages", *branches)
        try:
            fields = self._git.fields("-c", "merge.directoryRenames=false", *command, accept=1)
        except GitError as error:
            raise GitError(f"cannot merge: {error}") from None
        merged = Merge(self.read(fields[0]))
        stages, reasons = _sort_out(fields[1:])
        for path, found in stages.items():
            reason = reasons.get(path, "conflict")
            if found.keys() == {_BASE, _OURS} and reason not in _BESIDE:
                merged.vanished.append(path)
            elif found.keys() == {_BASE, _THEIRS} and reason not in _BESIDE:
                merged.stay_deleted.append(path)
                merged.tree.pop(path, None)
            else:
                merged.conflicts[path] = reason
                merged.stages[path] = found
        return merged

    def patch(self, old: Tree, new: Tree, prefix: str) -> bytes:
        """Return the binary patch from one tree to the other, for files under a prefix."""
        sides = (f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}")
        form = ("--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff")
        return self._git.raw("diff-tree", "-r", *form, *sides, self.write(old), self.write(new))

    def moves(self, old: Tree, new: Tree) -> dict[str, str]:
        """Return the files that were moved from one tree to the other, by their new path."""
        options = ("-r", "-z", "-M", "--diff-filter=R", "--name-status")
        fields = self._git.fields("diff-tree", *options, self.write(old), self.write(new))
        return dict(zip(fields[2::3], fields[1::3], strict=True))

    def _commit(self, tree: Tree, *options: str) -> str:
        return self._git.text("commit-tree", *options, "-m", "a side", self.write(tree))


def _sort_out(fields: list[str]) -> tuple[dict[str, dict[int, str]], dict[str, str]]:
    """Parse what ``merge-tree -z`` says after the tree: stages and kinds of conflict by path.

    Where it says several things of a file, the first is the reason of the others.
    """
    stages: defaultdict[str, dict[int, str]] = defaultdict(dict)
    reasons: dict[str, str] = {}
    rest = iter(fields)
    for entry in rest:
        if not entry:
            break
        kind, _, path = entry.partition("\t")
        mode, name, stage = kind.split(" ")
        stages[path][int(stage)] = f"{mode} {name}"
    for count in rest:
        paths = [next(rest) for _ in range(int(count))]
        kind, _ = next(rest), next(rest)
        if kind.startswith("CONFLICT"):
            for path in paths:
                reasons.setdefault(path, kind.removeprefix("CONFLICT ").strip("()"))
    return stages, reasons
