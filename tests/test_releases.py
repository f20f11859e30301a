"""Versions of a template: which is newest, which is meant, and what changed between two."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from history import NEWEST, history, repository

from inferplate.errors import InferplateError
from inferplate.git import without_credentials
from inferplate.releases import Releases, address, by_version, changes_between, newest, parse
from inferplate.workbench import Workbench

CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [0.10.0] - 2026-12-03

### Added

- Ten.

## [0.2.0] - 2026-12-02

- Two.

## 0.1.0

- One.
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gh:inferplate/inferplate", "https://github.com/inferplate/inferplate.git"),
        ("gl:/team/template.git", "https://gitlab.com/team/template.git"),
        ("git+https://example.org/template", "https://example.org/template"),
        ("git@example.org:team/template.git", "git@example.org:team/template.git"),
        ("/srv/template", "/srv/template"),
    ],
)
def test_a_source_is_spelled_as_git_does(source: str, expected: str) -> None:
    assert address(source) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["v0.10.0", "v0.9.0", "v0.11.0rc1", "nightly"], "v0.10.0"),
        (["0.1.0"], "0.1.0"),
        (["v1.0.0a1"], None),
        ([], None),
    ],
)
def test_the_newest_version_is_no_prerelease(tags: Sequence[str], expected: str | None) -> None:
    assert newest(by_version(tags)) == expected


def test_a_commit_after_a_version_is_newer_than_it_and_older_than_the_next() -> None:
    versions = [parse(text) for text in ("v0.2.0", "v0.2.0-3-g0123abc", "v0.2.1")]
    release, between, following = (version for version in versions if version)
    assert release < between < following


@pytest.mark.parametrize("commit", ["0123abc", "1234567", "12345a6"])
def test_a_bare_commit_is_no_version(commit: str) -> None:
    assert parse(commit) is None


def test_the_changes_between_two_versions_are_cut_out_of_the_changelog() -> None:
    both = changes_between(CHANGELOG, "v0.1.0", "v0.10.0")
    assert both == CHANGELOG[CHANGELOG.index("## [0.10.0]") : CHANGELOG.index("\n## 0.1.0")].strip()
    assert changes_between(CHANGELOG, "v0.2.0", "v0.2.0") == ""
    assert "Not yet" not in changes_between(CHANGELOG, "v0.1.0", "v9.0.0")
    assert changes_between(CHANGELOG, "0123abc", "v0.2.0") == ""


SAID = {
    "key": "git@host: Permission denied (publickey).",
    "host": "Host key verification failed.",
    "name": "ERROR: Repository not found.",
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_what_ssh_says_is_told(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    with pytest.raises(InferplateError, match=re.escape(said)):
        Releases("git@host.invalid:team/template.git", tmp_path / "clone")


@pytest.mark.parametrize("user", ["me:geheim", "geheim", "me:ge@heim"])
def test_no_token_is_shown(user: str, tmp_path: Path) -> None:
    with pytest.raises(InferplateError) as raised:
        Releases(f"https://{user}@127.0.0.1:1/template.git", tmp_path / "clone")
    assert "heim" not in str(raised.value)
    assert "https://127.0.0.1:1/template.git: git clone: " in str(raised.value)
    said = f"fatal: repository 'https://{user}@host/x.git/' not found"
    assert without_credentials(said) == "fatal: repository 'https://host/x.git/' not found"


def test_a_bare_repository_is_named_to_git(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "COUNT": "1",
        "KEY_0": "safe.bareRepository",
        "VALUE_0": "explicit",
    }.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert Releases(str(history(bench)), tmp_path / "clone").newest() == NEWEST


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_that_leads_out_of_the_template_is_refused(target: str, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "link").symlink_to(target)
    repository(template).raw("tag", "v1.0.0")
    releases = Releases(str(template), tmp_path / "clone")
    with pytest.raises(InferplateError, match=r"template v1\.0\.0 cannot be used: .*link"):
        releases.export("v1.0.0", tmp_path / "files")
