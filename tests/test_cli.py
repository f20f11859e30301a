"""The command line: small to start, clear when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import EVERY_VARIANT
from history import repository

from inferplate.template.questions import axis_choices, read_choices, read_questions
from inferplate.template.source import template_root

TOOLS = ("verify", "bench")
"""Commands of developers: ``inferplate-verify`` and ``inferplate-bench``."""


def command_line(*arguments: str) -> list[str]:
    first, rest = arguments[:1], arguments[1:]
    if first and first[0] in TOOLS:
        return [sys.executable, "-m", f"inferplate_tools.{first[0]}", *rest]
    return [sys.executable, "-m", "inferplate", *arguments]


def inferplate(*arguments: str, columns: int = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["new", "--help"],
        ["update", "--help"],
        ["variants"],
        ["variants", "--github"],
    ],
    ids=" ".join,
)
def test_start_up_imports_no_more_than_it_needs(arguments: Sequence[str]) -> None:
    program = (
        "import sys\n"
        "from inferplate.__main__ import main\n"
        "sys.argv = sys.argv[1:]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "inferplate", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
        text=True,
    )
    imported = set(done.stderr.split())
    assert "inferplate.cli" in imported
    assert not any(name.startswith("inferplate_tools") for name in imported)
    unneeded = set() if arguments[0] == "variants" else {"jinja2"}  # for the validators of choices
    assert not imported & unneeded
    assert not imported & {
        "copier",
        "matplotlib",
        "numpy",
        "psutil",
        "pydantic",
        "pytest",
    }


def test_without_a_command_it_helps() -> None:
    result = inferplate()
    assert result.returncode == 0
    assert "variants" in result.stdout
    assert "verify" not in result.stdout


def test_the_exit_codes_are_told() -> None:
    assert "Exit codes: 0 done; 1 refused, failed" in inferplate("--help").stdout


COMMANDS = ["", "new", "update", "status", "variants", *TOOLS]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_cuts_nothing_off_at_80_columns(command: str, option: str) -> None:
    result = inferplate(*command.split(), option, columns=80)
    _, _, described = result.stdout.partition("\n")
    assert result.returncode == 0
    assert "..." not in described
    assert max(map(len, described.splitlines())) <= 80


@pytest.mark.parametrize("command", ["new", "update"])
def test_help_lists_what_each_question_takes(command: str) -> None:
    told = " ".join(inferplate(command, "--help").stdout.split())
    for name, question in read_questions(template_root()).items():
        if question.get("when") is False:
            continue
        assert f"--{name} " in told or name in told
        for choice in read_choices(question.get("choices", ())):
            assert choice.value in told


def test_the_choices_are_listed_first_and_the_product_on_demand() -> None:
    listed = inferplate("variants", columns=80).stdout
    assert len(listed.splitlines()) < 40
    assert max(map(len, listed.splitlines())) <= 80
    for axis, choices in axis_choices(read_questions(template_root())).items():
        assert f"{axis}:\n" in listed
        assert all(f"  {choice.value} " in listed for choice in choices)
    combinations = inferplate("variants", "--all").stdout
    assert combinations.count("hypercorn") > 20


def test_it_tells_its_version() -> None:
    assert inferplate("--version").stdout == f"inferplate {version('inferplate')}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("inferplate new --set li", ["licence="]),
        ("inferplate new --set ci=", ["ci=github", "ci=gitlab", "ci=none"]),
        ("inferplate update --set licence=M", ["licence=MIT"]),
        ("inferplate update --to v", ["v1.10.0", "v1.9.0"]),
        ("inferplate update --runtime o", ["onnxruntime", "openvino"]),
    ],
)
def test_shells_complete_answers_and_versions(
    words: str, expected: list[str], tmp_path: Path
) -> None:
    source = repository(tmp_path)
    for tag in ("v1.9.0", "v1.10.0", "other"):
        source.raw("tag", tag)
    (tmp_path / ".copier-answers.yml").write_text(
        f"_src_path: {tmp_path}\n_commit: v1.9.0\nserver: uvicorn\n"
    )
    completing = {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-m", "inferplate"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **completing, "_INFERPLATE_COMPLETE": "complete_fish"},
    )
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize("command", [["status"], ["new", "service", "--defaults"]], ids=" ".join)
def test_a_folder_that_is_gone_is_told_in_a_line(command: list[str], tmp_path: Path) -> None:
    leave = ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh"]
    done = subprocess.run(
        [*leave, sys.executable, "-m", "inferplate", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("inferplate: ")


def test_it_is_interrupted_from_the_first_moment(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "inferplate", "variants"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "inferplate: interrupted\n"


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("bash", {"COMP_WORDS": "inferplate new --framework l", "COMP_CWORD": "3"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "inferplate new --framework l"}),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "inferplate new --framework l",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
        ),
    ],
)
def test_shells_complete_choices(shell: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inferplate"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "_INFERPLATE_COMPLETE": f"complete_{shell}"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "litestar" in done.stdout
    assert "fastapi" not in done.stdout


def test_completion_is_offered_and_installed(tmp_path: Path) -> None:
    offered = inferplate("--help").stdout
    assert "--install-completion" in offered
    assert "--show-completion" in offered
    tool = f"{sys.executable} -m inferplate"
    script = (
        f'eval "$({tool} --show-completion)"; {tool} --install-completion; complete -p inferplate'
    )
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == (
        "complete -o default -F _inferplate_completion inferplate"
    )
    assert list((tmp_path / ".bash_completions").iterdir())


def test_lists_the_variants_as_a_table() -> None:
    result = inferplate("variants", "--framework", "ninja", "--server", "granian")
    count = len(EVERY_VARIANT) // 12
    assert f"{count} combinations" in result.stdout
    assert result.stdout.count("granian") == count


def test_lists_the_variants_as_json() -> None:
    result = inferplate("variants", "--runtime", "python", "--json")
    found = json.loads(result.stdout)
    assert len(found) == len([each for each in EVERY_VARIANT if each.runtime == "python"])
    assert found[0] == {
        "variant": "fastapi-python-uvicorn",
        "framework": "fastapi",
        "runtime": "python",
        "server": "uvicorn",
        "task": "tabular",
    }


def test_lists_the_variants_as_a_matrix_of_a_workflow() -> None:
    (line,) = inferplate("variants", "--github").stdout.splitlines()
    matrix = json.loads(line)
    assert list(matrix) == ["include"]
    assert len(matrix["include"]) == len(EVERY_VARIANT)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["variants", "--framework", "fastpi"], 1, "unknown framework 'fastpi': did you mean"),
        (["variants", "--json", "--github"], 1, "give --json or --github, not both"),
        (["variants", "--framwork", "ninja"], 2, "No such option: --framwork"),
        (["updat"], 2, "Did you mean 'update'"),
        (["new"], 2, "Missing argument 'DEST'"),
        (
            ["new", "a", "--runtime", "xgboost", "--task", "text"],
            1,
            "task=text: needs the run",
        ),
        (["new", "a", "--framework", "fastpi"], 1, "unknown framework 'fastpi': did you mean"),
        (["verify", "--check", "sute"], 1, "unknown check 'sute': did you mean 'suite'?"),
        (["verify", "--report", "xml", "file"], 1, "unknown report 'xml': choose from json, junit"),
        (["verify", "--jobs", "some"], 2, "--jobs"),
        (["verify", "--keep", "src"], 1, "src is not an empty folder"),
        (["verify", "--report", "json", "/proc/report"], 1, "/proc/report: "),
        (["bench", "--peer", "nave"], 1, "unknown peer 'nave': did you mean 'naive'?"),
        (["bench", "--model", "tabluar"], 1, "unknown model 'tabluar': did you mean 'tabular'?"),
        (["bench", "--model", "no.onnx"], 1, "no.onnx"),
        (["bench", "--wire", "jsn"], 1, "unknown wire 'jsn': did you mean 'json'?"),
        (["bench", "--open-loop", "fast"], 1, "--open-loop 'fast' is neither a rate"),
        (["bench", "--open-loop", "0%"], 1, "--open-loop '0%' is neither a rate"),
        (["bench", "--rounds", "0"], 2, "--rounds"),
        (["bench", "--suite", "all"], 1, "unknown suite 'all': choose from reference"),
        (["bench", "--suite", "reference", "--rows", "8"], 1, "--suite sets --rows itself"),
        (["bench", "--runtime", "xgboost"], 1, "xgboost cannot serve the ONNX model tabular"),
        (["bench", "--model", "example", "--peer", "naive"], 1, "cannot serve --model example"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line(arguments: Sequence[str], code: int, message: str) -> None:
    result = inferplate(*arguments)
    assert result.returncode == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    name = f"inferplate-{arguments[0]}" if arguments[0] in TOOLS else "inferplate"
    assert line.startswith(f"{name}: ")
    assert message in line


def test_verify_reports_what_it_covered(tmp_path: Path) -> None:
    selection = ["--framework", "fastapi", "--runtime", "python", "--task", "tabular"]
    selection += ["--check", "lint"]
    keep, report = tmp_path / "kept", tmp_path / "report.json"
    result = inferplate("verify", *selection, "--keep", str(keep), "--report", "json", str(report))
    assert result.returncode == 0, result.stdout
    assert f"4 of {len(EVERY_VARIANT)}" in result.stdout
    written = json.loads(report.read_bytes())
    assert written["checks"] == {"lint": {"passed": 4, "failed": 0}}
    assert {entry["variant"] for entry in written["results"]} == {
        path.name for path in (keep / "variants").iterdir() if path.is_dir()
    }


def test_verify_begins_no_further_check_when_it_is_interrupted(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    selection = ["--framework", "fastapi", "--runtime", "python", "--server", "uvicorn"]
    verifying = subprocess.Popen(
        command_line("verify", *selection, "--keep", str(keep)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while verifying.poll() is None and not (keep / "variants").exists():
        time.sleep(0.05)
    verifying.send_signal(signal.SIGTERM)
    _, error = verifying.communicate(timeout=120)
    assert verifying.returncode == 130
    assert error.splitlines()[-1] == "inferplate-verify: interrupted"
    assert not (keep / "trained").exists()


def test_verify_writes_junit(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    selection = ["--framework", "ninja", "--runtime", "python", "--server", "granian"]
    selection += ["--task", "tabular"]
    result = inferplate("verify", *selection, "--check", "lint", "--report", "junit", str(report))
    assert result.returncode == 0, result.stdout
    (case,) = ElementTree.parse(report).getroot().iter("testcase")
    assert case.get("name") == "ninja-python-granian"
