"""The user's git settings change neither what a command does nor what it prints."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, Run
from history import OLDEST, edit, emitted, files, history, last, new, repository, save

from inferplate.commands import new as new_module
from inferplate.git import Git
from inferplate_tools.workbench import Workbench

Settings = dict[str, str]
Found = dict[str, object]
Outcome = Callable[[Callable[[Path], object]], Found]

EVERYWHERE: Settings = {
    "apply.ignoreWhitespace": "change",
    "apply.whitespace": "error-all",
    "branch.autoSetupRebase": "always",
    "color.branch": "always",
    "color.diff": "always",
    "color.grep": "always",
    "color.grep.filename": "red",
    "color.status": "always",
    "color.ui": "always",
    "column.ui": "always",
    "core.autocrlf": "input",
    "core.eol": "crlf",
    "core.fileMode": "false",
    "core.ignoreCase": "true",
    "core.pager": "false",
    "core.precomposeUnicode": "true",
    "core.preloadIndex": "false",
    "core.protectNTFS": "true",
    "core.quotePath": "false",
    "core.safecrlf": "true",
    "core.splitIndex": "true",
    "core.symlinks": "false",
    "core.trustctime": "false",
    "core.untrackedCache": "true",
    "core.whitespace": "tab-in-indent,blank-at-eof,cr-at-eol",
    "diff.algorithm": "patience",
    "diff.context": "0",
    "diff.dstPrefix": "other/",
    "diff.external": "false",
    "diff.ignoreSubmodules": "all",
    "diff.interHunkContext": "9",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.orderFile": "/nowhere",
    "diff.relative": "true",
    "diff.renameLimit": "1",
    "diff.renames": "copies",
    "diff.srcPrefix": "another/",
    "diff.wordRegex": ".",
    "fetch.prune": "true",
    "grep.column": "true",
    "grep.fullName": "false",
    "grep.lineNumber": "true",
    "grep.patternType": "fixed",
    "index.version": "4",
    "merge.conflictStyle": "zdiff3",
    "merge.directoryRenames": "true",
    "merge.ff": "only",
    "merge.renameLimit": "1",
    "merge.renames": "false",
    "merge.renormalize": "true",
    "merge.verbosity": "5",
    "pager.diff": "true",
    "pager.grep": "true",
    "pager.status": "true",
    "pager.tag": "true",
    "pull.ff": "only",
    "pull.rebase": "true",
    "push.autoSetupRemote": "true",
    "push.default": "nothing",
    "rebase.autoStash": "true",
    "rerere.enabled": "true",
    "status.branch": "true",
    "status.relativePaths": "false",
    "status.renames": "copies",
    "status.short": "true",
    "status.showStash": "true",
    "status.showUntrackedFiles": "no",
    "submodule.recurse": "true",
}
"""Settings that may be made for one repository, and for all of a user's."""

OTHERWISE: Settings = {
    "apply.whitespace": "fix",
    "core.autocrlf": "true",
    "diff.renames": "false",
    "feature.manyFiles": "true",
    "merge.conflictStyle": "diff3",
}
"""Other values of some of them."""

USERS: Settings = {
    "advice.addIgnoredFile": "true",
    "advice.detachedHead": "true",
    "alias.apply": "!false",
    "alias.status": "!false",
    "clone.defaultRemoteName": "upstream",
    "commit.cleanup": "scissors",
    "commit.status": "false",
    "commit.template": "/nowhere",
    "commit.verbose": "true",
    "core.commentChar": "M",
    "core.editor": "false",
    "fetch.fsckObjects": "true",
    "gpg.format": "ssh",
    "i18n.commitEncoding": "ISO-8859-1",
    "i18n.logOutputEncoding": "UTF-16",
    "init.defaultRefFormat": "reftable",
    "log.date": "iso",
    "log.decorate": "full",
    "log.showSignature": "true",
    "safe.bareRepository": "explicit",
    "tag.forceSignAnnotated": "true",
    "tag.gpgSign": "true",
    "tag.sort": "-version:refname",
    "tar.umask": "077",
    "transfer.fsckObjects": "true",
    "user.useConfigOnly": "true",
}
"""Settings that belong to a user."""

VARIABLES: Settings = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.autocrlf",
    "GIT_CONFIG_VALUE_0": "true",
    "GIT_CONFIG_PARAMETERS": "'merge.conflictStyle'='diff3' 'diff.noprefix'='true'",
    "GIT_DEFAULT_HASH": "sha256",
    "GIT_DIFF_OPTS": "--unified=0",
    "GIT_DIR": "/nowhere",
    "GIT_EXTERNAL_DIFF": "false",
    "GIT_GLOB_PATHSPECS": "1",
    "GIT_INDEX_FILE": "/nowhere/index",
    "GIT_MERGE_VERBOSITY": "5",
    "GIT_PAGER": "false",
    "GIT_WORK_TREE": "/nowhere",
}
ATTRIBUTES = """\
* text eol=crlf -merge -diff
*.toml binary
Makefile merge=union
src export-ignore
"""


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give all tests the same empty folder, so that what is printed names the same paths."""
    folder = tmp_path_factory.getbasetemp() / "git-settings"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home/.config/git").mkdir(parents=True)
    return folder


@pytest.fixture
def outcome(
    place: Path, bench: Workbench, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> Outcome:
    """Return what each command prints and leaves after settings were made for a project."""
    source = history(bench)
    emitted_once = emitted(bench, ALL_VARIANTS[0], OLDEST)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "home/.config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setattr(new_module, "template_root", lambda: source)

    def run(prepare: Callable[[Path], object]) -> Found:
        project, made = place / "project", place / "made"
        shutil.copytree(emitted_once, project)
        repository(project)
        save(project, {"Makefile": last("# mine"), "src/service/größe.py": new("mine = 1 \n")})
        prepare(project)
        found: Found = {"new": inferplate("new", made, "--defaults")}
        found["made"] = _content(made)
        found["first commit"] = inferplate("update", made)
        found["status"] = inferplate("status", project)
        edit(project, {"größe.txt": new("mine\n")})
        found["not committed"] = inferplate("update", project)
        (project / "größe.txt").unlink()
        found["update"] = inferplate("update", project)
        found["updated"] = _content(project)
        found["conflict"] = inferplate("update", project, "--continue")
        edit(project, {"Makefile": new("test:\n\t@exit 0\n")})
        Git(project).raw("add", "Makefile")
        found["continue"] = inferplate("update", project, "--continue")
        return found

    return run


def _content(project: Path) -> dict[str, bytes]:
    """Return the files as git has them, whatever ends their lines here."""
    return {name: text.replace(b"\r\n", b"\n") for name, text in files(project).items()}


_expected: Found = {}


@pytest.fixture
def expected(outcome: Outcome, place: Path) -> Found:
    """Return what it is without any settings."""
    if not _expected:
        _expected.update(outcome(lambda _: None))
        shutil.rmtree(place / "project")
        shutil.rmtree(place / "made")
    return _expected


def test_without_settings_every_command_does_what_the_tests_compare(expected: Found) -> None:
    codes = {name: found[0] for name, found in expected.items() if isinstance(found, tuple)}
    refused = {"not committed", "update", "conflict"}
    assert codes == {name: int(name in refused) for name in codes}


@pytest.mark.parametrize("settings", [EVERYWHERE, OTHERWISE], ids=["all", "others"])
def test_settings_of_the_repository_change_nothing(
    settings: Settings, outcome: Outcome, expected: Found
) -> None:
    def prepare(project: Path) -> None:
        for key, value in settings.items():
            Git(project).raw("config", key, value)

    found = outcome(prepare)
    for key in expected:
        assert (key, found[key]) == (key, expected[key])


@pytest.mark.parametrize("settings", [EVERYWHERE | USERS, OTHERWISE], ids=["all", "others"])
def test_settings_of_the_user_change_nothing(
    settings: Settings, place: Path, outcome: Outcome, expected: Found
) -> None:
    def prepare(_: Path) -> None:
        for key, value in settings.items():
            Git(place).raw("config", "--global", key, value)
        (place / "home/.config/git/attributes").write_text(ATTRIBUTES, encoding="utf-8")

    found = outcome(prepare)
    for key in expected:
        assert (key, found[key]) == (key, expected[key])


def test_variables_of_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, expected: Found
) -> None:
    def prepare(_: Path) -> None:
        for name, value in VARIABLES.items():
            monkeypatch.setenv(name, value)

    found = outcome(prepare)
    for key in expected:
        assert (key, found[key]) == (key, expected[key])
