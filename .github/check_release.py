"""Checks a release before it is published, and prints its section of the changelog.

In the repository, with a Python that has the release's wheel installed:

    python .github/check_release.py v0.2.0

The wheel must be of the tag's version and carry the tag's template, byte for byte, the changelog
must say what is new, and `inferplate new` must make what `copier copy` makes from the tag.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from inferplate.project.project import ANSWERS_FILE
from inferplate.template.releases import CHANGELOG, Releases, changes_between
from inferplate.template.source import (
    PUBLIC_ADDRESS,
    QUESTIONS,
    bundled_template,
    installed_version,
)
from inferplate_tools.verify.hygiene import tree


def main() -> None:
    (tag,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        releases = Releases(str(Path.cwd()), folder / "repository")
        source = releases.export(releases.find(tag), folder / "source")
        notes = release_notes(source, releases.tags, tag)
        problems = [*of_version(tag), *of_template(source), *of_projects(tag, folder)]
    if not notes:
        problems.append(f"{CHANGELOG} has no section for {tag}")
    if problems:
        sys.exit("\n".join(problems))
    print(notes)


def release_notes(source: Path, tags: list[str], tag: str) -> str:
    before = ["v0.0", *tags][tags.index(tag)]
    section = changes_between((source / CHANGELOG).read_text(encoding="utf-8"), before, tag)
    return section.partition("\n")[2].strip()


def of_version(tag: str) -> Iterator[str]:
    if installed_version() != tag:
        yield f"the wheel is of {installed_version()}, not of {tag}"


def of_template(source: Path) -> Iterator[str]:
    bundled = bundled_template()
    if bundled is None:
        yield "this Python has no wheel installed"
        return
    yield from differences(
        {QUESTIONS: (source / QUESTIONS).read_bytes(), **tree(source / "template")},
        {QUESTIONS: (bundled / QUESTIONS).read_bytes(), **tree(bundled / "template")},
        "the templates of tag and wheel differ in",
    )


def of_projects(tag: str, folder: Path) -> Iterator[str]:
    by_copier, by_new = folder / "by-copier", folder / "by-new"
    copy = ("copier", "copy", "--defaults", "--quiet", "--vcs-ref", tag, str(Path.cwd()))
    title = yaml.safe_load(Path(QUESTIONS).read_bytes())["project_name"]["default"]
    new = ("inferplate", "new", "--defaults", "--no-git", "--name", title)
    for command in ((*copy, str(by_copier)), (*new, str(by_new))):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=sys.stderr)  # noqa: S603
    expected, found = tree(by_copier), tree(by_new)
    answers = yaml.safe_load(expected.pop(ANSWERS_FILE))
    if yaml.safe_load(found.pop(ANSWERS_FILE)) != {**answers, "_src_path": PUBLIC_ADDRESS}:
        yield f"'inferplate new' records other answers than {tag} from {PUBLIC_ADDRESS}"
    yield from differences(expected, found, "the projects of tag and wheel differ in")


def differences(left: Mapping[str, Any], right: Mapping[str, Any], what: str) -> Iterator[str]:
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            yield f"{what} {name}"


if __name__ == "__main__":
    main()
