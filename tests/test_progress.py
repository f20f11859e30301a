"""Slow work says what it does at a terminal, and ends with all that it has started."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from history import NEWEST, PREVIOUS, MakeProject, of, save, state

STEPS = ["Fetching the template", "Rendering the template", "Merging your edits"]


class Terminal(io.StringIO):
    """A terminal that keeps all that was shown."""

    def isatty(self) -> bool:
        return True


def shown(run: Run, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        assert run(*arguments)[0] == 0
    return terminal.getvalue()


def test_steps_are_shown_at_a_terminal_only(
    make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(version=PREVIOUS)
    assert shown(inferplate, monkeypatch, "update", project, "--dry-run", "--quiet") == ""
    told = shown(inferplate, monkeypatch, "update", project, "--dry-run")
    assert [step for step in STEPS if step in told] == STEPS
    code, _, error = inferplate("update", project, "--dry-run")
    assert (code, error) == (0, "")
    assert "Fetching the template" in shown(inferplate, monkeypatch, "status", project)


HANGING = """#!/bin/sh
echo $$ >> {started}
sleep 300 &
echo $! >> {started}
wait
"""


def lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("command", [["update"], ["status"]], ids=" ".join)
def test_what_is_interrupted_ends_with_its_children(
    command: list[str], ending: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = of(Path("ssh://127.0.0.1/template.git"), make_project(version=NEWEST))
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace("ssh:/1", "ssh://1"))
    save(project, {})
    before = state(project)
    started, ssh, work = tmp_path / "started", tmp_path / "ssh", tmp_path / "work"
    work.mkdir()
    ssh.write_text(HANGING.format(started=started))
    ssh.chmod(0o755)
    environment: dict[str, Any] = {**os.environ, "GIT_SSH": str(ssh), "TMPDIR": str(work)}
    running = subprocess.Popen(
        [sys.executable, "-m", "inferplate", *command],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < until:
        if started.exists() and started.read_text().count("\n") == 2:
            break
        time.sleep(0.05)
    assert running.poll() is None
    running.send_signal(signal.Signals[ending])
    _, error = running.communicate(timeout=60)
    assert (running.returncode, error) == (130, "inferplate: interrupted\n")
    children = [int(pid) for pid in started.read_text().split()]
    until = time.monotonic() + 10
    while any(map(lives, children)) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in children if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    assert list(work.iterdir()) == []
    assert state(project) == before
