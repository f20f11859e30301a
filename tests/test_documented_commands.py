"""Every command in a shell block of the documents: its program, options and files exist.

Whether the commands of a page work together is for the test of that page; here none may be left
that nobody looks at.
"""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from manifests import emit
from test_readme import DOCUMENTS
from typer.exceptions import TyperException
from typer.main import get_command

from inferplate.cli import app
from inferplate.errors import InferplateError
from inferplate.template.answers import read_answers, split_answers
from inferplate.template.questions import AXES, read_questions, refusal
from inferplate.template.source import PUBLIC_ADDRESS, template_root
from inferplate.template.variants import Variant
from inferplate_tools.bench import command as bench_command
from inferplate_tools.verify import command as verify_command
from inferplate_tools.workbench import Workbench

ROOT = template_root()
BIN = Path(sys.executable).parent
QUESTIONS = read_questions(ROOT)
GENERATED = ROOT / "docs/reference"
"""What docs/reference/write.py writes has the usage of commands, not commands."""
FENCES = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = {"bash", "console", "sh", "shell", "zsh"}
OTHER = {"json", "jinja", "mermaid", "python", "text", "toml", "yaml"}
SETTING = re.compile(r"(\w+)=")
DEFAULT = Variant("fastapi", "onnxruntime", "uvicorn")
OFFERED = {
    "inferplate": get_command(app),
    "inferplate-bench": get_command(bench_command.app),
    "inferplate-verify": get_command(verify_command.app),
}
ADDED_BY_PAGES = {"centroids": "runtime"}
"""Choices that a page adds before it names them."""
SIGNED_BY = {"--certificate-identity", "--certificate-oidc-issuer"}
SIGNING = {
    ".github/workflows/ci.yml": (
        "https://github.com/",
        "https://token.actions.githubusercontent.com",
    ),
    "/.gitlab-ci.yml": ("https://gitlab.com/", "https://gitlab.com"),
}
"""The workflows that sign images: where their projects are, and who says who they are."""
PARSE = """
import argparse, os, runpy, sys
parse = argparse.ArgumentParser.parse_args
def stop(*arguments):
    parse(*arguments)
    sys.exit()
argparse.ArgumentParser.parse_args = stop
kind, name, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, os.path.dirname(name) if kind == "path" else "")
getattr(runpy, f"run_{kind}")(name, run_name="__main__")
"""
"""Runs a module or a script until it has parsed its arguments."""


class Wrong(Exception):
    """A command that cannot be as it stands there."""


def blocks(text: str) -> Iterator[str]:
    """Yield the shell blocks of a document; a block of an unknown language is an error."""
    for language, block in FENCES.findall(text):
        if language in SHELL:
            yield block
        elif language not in OTHER:
            raise Wrong(f"a block in the language {language!r}")


def commands(block: str) -> Iterator[list[str]]:
    """Yield the commands of a block, as words; those of a pipe one by one."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in ("|", "||", "&", "&&", ";"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


class Checks:
    """Checks commands, one program a method; each raises `Wrong`."""

    def __init__(self, project: Path) -> None:
        self.project = project
        """An emitted service."""

    def check(self, words: Sequence[str], *before: Sequence[str]) -> None:
        """Check a command; ``before``: those that its page has before it."""
        while words and (setting := SETTING.match(words[0])):
            if setting[1] not in settings():
                raise Wrong(f"there is no setting {setting[1]}")
            words = words[1:]
        program, *arguments = words
        program = program.removeprefix(".venv/bin/")
        if program in ("cd", "cp"):
            self._places(program, arguments, before)
        elif program in OFFERED:
            _parsed(program, arguments)
        elif program == "uv" and arguments[:1] == ["run"]:
            script = arguments[1].endswith(".py")
            self.check(["python", *arguments[1:]] if script else arguments[1:], *before)
        elif found := self._programs().get(program):
            found(arguments)
        else:
            raise Wrong(f"nobody checks the program {program}")

    def _programs(self) -> dict[str, Callable[[list[str]], None]]:
        return {
            "apt-get": _packages,
            "benchmarks/gpu.sh": _no_options,
            "copier": lambda words: _options("copier", words),
            "cosign": self._signature,
            "curl": _request,
            "docker": lambda words: _options("docker", words),
            "echo": lambda words: None,
            "git": lambda words: _options("git", words),
            "kubectl": lambda words: _options("kubectl", words[2 if words[0] == "-n" else 0 :]),
            "make": self._targets,
            "pipx": _installs,
            "pytest": _collects,
            "python": self._python,
            "sed": _edits,
            "uv": lambda words: _options("uv", words),
            "xargs": self.check,
        }

    def _places(
        self, program: str, arguments: Sequence[str], before: Sequence[Sequence[str]]
    ) -> None:
        if program == "cd":
            made = [Path(word).stem for words in before for word in words]
            if arguments[0] not in made:
                raise Wrong(f"no command makes the folder {arguments[0]}")
        elif not (self.project / arguments[-1]).exists():
            raise Wrong(f"a service has no {arguments[-1]}")

    def _targets(self, arguments: list[str]) -> None:
        """Check targets, of this repository or of a service, and what ``ARGS`` gives."""
        makefiles = [(folder / "Makefile").read_text() for folder in (ROOT, self.project)]
        targets = [word for word in arguments if "=" not in word]
        given = dict(word.split("=", 1) for word in arguments if "=" in word)
        for text in makefiles:
            known = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
            variables = set(re.findall(r"^(\w+) [?:]?=", text, re.MULTILINE))
            if known.issuperset(targets) and variables.issuperset(given):
                break
        else:
            raise Wrong(f"no Makefile has all of {targets} {[*given]}")
        if words := shlex.split(given.get("ARGS", "")):
            (target,) = targets
            match target:
                case "bench":
                    _parsed("inferplate-bench", words)
                case "matrix":
                    _parsed("inferplate-verify", words)
                case "faults":
                    _runs(["module", "faults", *words], ROOT / "tests")
                case _:
                    _collects(words)

    def _signature(self, words: list[str]) -> None:
        """Check that the workflow which signs is one of a service, and that its issuer is named."""
        verb, image, *options = words
        given = dict(zip(options[::2], options[1::2], strict=True))
        if verb != "verify" or given.keys() != SIGNED_BY:
            raise Wrong(f"cosign {words} does not say whose signature it must be")
        signer, ref = given["--certificate-identity"].rsplit("@", 1)
        name = next((name for name in SIGNING if signer.endswith(f"/{name}")), None)
        if not name or not signer.startswith(SIGNING[name][0]):
            raise Wrong(f"no workflow of a service is {signer}")
        if given["--certificate-oidc-issuer"] != SIGNING[name][1]:
            raise Wrong(f"{given['--certificate-oidc-issuer']} does not know {signer}")
        if ref != f"refs/tags/v{image.rpartition(':')[2]}":
            raise Wrong(f"{image} is not signed at {ref}")

    def _python(self, arguments: list[str]) -> None:
        match arguments:
            case ["-c", program, *_]:
                ast.parse(program)
            case ["-m", "service", *rest]:
                _runs(["module", "service", *rest], self.project / "src")
            case [script, *rest] if script.startswith("benchmarks/"):
                if not (ROOT / script).exists():
                    raise Wrong(f"there is no {script}")
                _runs(["path", script, *rest], ROOT)
            case [script, *rest] if script.startswith("../") or not rest:
                known = (self.project / script, *ROOT.glob(f"tests/*/{Path(script).name}"))
                if not any(path.exists() for path in known):
                    raise Wrong(f"there is no {script}")
            case _:
                raise Wrong(f"nobody checks python {arguments}")


@cache
def settings() -> set[str]:
    text = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def _parsed(program: str, arguments: list[str]) -> None:
    """Let a command line of ours parse its arguments, and check the answers among them."""
    command, name = OFFERED[program], ""
    if offered := getattr(command, "commands", None):
        name, *arguments = arguments
        if name not in offered:
            raise Wrong(f"{program} has no command {name}")
        command = offered[name]
    try:
        with command.make_context(program, list(arguments)) as context:
            given = context.params
    except TyperException as error:
        raise Wrong(error.format_message()) from None
    answers = {axis: given[axis] for axis in AXES if given.get(axis)}
    try:
        for axis, values in answers.items():
            for value in [values] if isinstance(values, str) else values:
                if ADDED_BY_PAGES.get(value) != axis:
                    read_answers({axis: value}, QUESTIONS)
        read_answers(split_answers(given.get("settings") or []), QUESTIONS)
    except InferplateError as error:
        raise Wrong(str(error)) from None
    if name == "new" and (reason := refusal(QUESTIONS, answers)):
        raise Wrong(reason)


def _runs(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{PARSE}", *words],
        cwd=ROOT if folder == ROOT else folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Wrong(done.stderr.strip().splitlines()[-1])


def _collects(words: list[str]) -> None:
    """Let pytest look for tests without running them, in few files: all take half a minute."""
    names = [word for option, word in pairwise(words) if option == "-k"]
    files = [
        path for path in ROOT.glob("tests/test_*.py") if any(n in path.read_text() for n in names)
    ]
    arguments = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *words]
    done = subprocess.run(
        [*arguments, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Wrong(f"pytest {words} finds nothing: {done.stdout[-200:]}{done.stderr[-200:]}")


def _options(program: str, words: list[str]) -> None:
    """Check that the help of a command of another project has its long options."""
    commands: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z]+", word) or len(commands) == (
            3 if "imagetools" in words else 2 if {"buildx", "pip"} & {*words} else 1
        ):
            break
        commands.append(word)
    text = helped(program, *commands)
    for option in words:
        name = re.match(r"--[\w-]+", option)
        if name and text and not re.search(rf"--(\[no-\])?{name[0][2:]}\b", text):
            raise Wrong(f"{program} {' '.join(commands)} has no {name[0]}")
    if program == "copier" and PUBLIC_ADDRESS not in words:
        raise Wrong("copier takes the template from elsewhere")


@cache
def helped(program: str, *commands: str) -> str:
    """Return what a command says of itself; nothing where it is not at hand."""
    path = shutil.which(program, path=BIN) or shutil.which(program)
    if path is None:
        return ""
    asked = "-h" if program == "git" else "--help"
    done = subprocess.run([path, *commands, asked], capture_output=True, text=True, check=False)
    if (program == "git" and done.returncode != 129) or (program != "git" and done.returncode):
        raise Wrong(f"{program} has no {' '.join(commands)}")
    at_hand = program != "docker" or re.search(rf"docker {' '.join(commands)}\b", done.stdout)
    return done.stdout + done.stderr if at_hand else ""


def _no_options(words: list[str]) -> None:
    if options := [word for word in words if word.startswith("-")]:
        raise Wrong(f"it has no option {options[0]}")


def _packages(words: list[str]) -> None:
    known = (ROOT / "tests/system-packages").read_text()
    for package in words[1:]:
        if words[0] != "install" or f"missing+=({package})" not in known:
            raise Wrong(f"tests/system-packages does not know {package}")


def _installs(words: list[str]) -> None:
    """Check the command only: test_readme looks at the place."""
    if words[0] != "install" or not words[1].endswith("inferplate"):
        raise Wrong(f"pipx {words} does not install inferplate")


def _request(words: list[str]) -> None:
    """Check that a service has the path, and that the body is JSON."""
    paths = {
        path
        for name in (ROOT / "tests/snapshots").glob("openapi-*.json")
        for path in json.loads(name.read_text(encoding="utf-8"))["paths"]
    }
    paths |= {"/ping", "/invocations"}  # of a service that SageMaker starts
    patterns = [re.sub(r"\{\w+\}", r"[\\w.-]+", path) for path in paths]
    address = urlsplit(next(word for word in words if "://" in word))
    if not any(re.fullmatch(pattern, address.path) for pattern in patterns):
        raise Wrong(f"a service has no {address.path}")
    if "--json" in words:
        json.loads(words[words.index("--json") + 1])


def _edits(words: list[str]) -> None:
    (expression,) = [word for word in words if not word.startswith("-")]
    done = subprocess.run(["sed", "-n", expression, "/dev/null"], capture_output=True, check=False)  # noqa: S607
    if done.returncode:
        raise Wrong(done.stderr.decode())


@pytest.fixture(scope="module")
def checks(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Checks:
    """Check against a service with all files of deployments."""
    folder = tmp_path_factory.mktemp("documented") / "service"
    return Checks(emit(bench.template(), folder, **DEFAULT.answers()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_is_one_that_there_is(document: Path, checks: Checks) -> None:
    if document.is_relative_to(GENERATED):
        return
    before: list[list[str]] = []
    for block in blocks(document.read_text(encoding="utf-8")):
        for words in commands(block):
            checks.check(words, *before)
            before.append(words)


NAMED = re.compile(r"`((?:inferplate(?:-bench|-verify)?|make) [^`]+)`")
"""Commands in a sentence, which may leave out what they need."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_command_in_a_sentence_is_one_that_there_is(document: Path, checks: Checks) -> None:
    text = FENCES.sub("", document.read_text(encoding="utf-8"))
    for line in NAMED.findall(text):
        check_named(line, checks)


def check_named(line: str, checks: Checks) -> None:
    program, *arguments = line.split()
    if program == "make":
        checks.check([program, arguments[0]])
        return
    command = OFFERED[program]
    known = options(command)
    if offered := getattr(command, "commands", None):
        if not arguments[0].startswith("-") and arguments[0] not in offered:
            raise Wrong(f"{program} has no command {arguments[0]}")
        known |= options(offered.get(arguments[0], command))
    for option in re.findall(r"(?<![\w-])--[\w-]+", line):
        if option not in known:
            raise Wrong(f"{line}: there is no {option}")


def options(command: Any) -> set[str]:
    found = {name for each in command.params for name in [*each.opts, *each.secondary_opts]}
    return found | {"--help"}


@pytest.mark.parametrize(
    "line", ["make tset", "inferplate nwe", "inferplate new --framwork x", "inferplate --versoin"]
)
def test_a_wrong_command_in_a_sentence_is_noticed(line: str, checks: Checks) -> None:
    with pytest.raises(Wrong):
        check_named(line, checks)


def signed(workflow: str, version: str) -> str:
    """Return the options that check the signature of a workflow."""
    signer = f"https://github.com/a/b/.github/workflows/{workflow}@refs/tags/v{version}"
    issuer = SIGNING[".github/workflows/ci.yml"][1]
    return f"--certificate-identity {signer} --certificate-oidc-issuer {issuer}"


WRONG = [
    ("inferplate nwe a", "no command nwe"),
    ("inferplate new", "Missing argument 'DEST'"),
    ("inferplate new a --framwork ninja", "No such option: --framwork"),
    ("inferplate new a --framework flask", "unknown framework 'flask'"),
    ("inferplate new a --runtime xgboost --task image", "needs onnxruntime"),
    ("inferplate update --set licence=GPL", "unknown licence 'GPL'"),
    ("inferplate-bench --rounds many", "many"),
    (".venv/bin/inferplate-verify --frameworks fastapi", "No such option"),
    ("make tset", "no Makefile has all of"),
    ("make test IMAGES=1", "no Makefile has all of"),
    ("make bench ARGS='--peers naive'", "No such option: --peers"),
    ("make faults ARGS=--kinds", "unrecognized arguments|expected one argument"),
    ("make test ARGS=--exhaustve", "finds nothing"),
    ("uv run python -m service manifst", "invalid choice: 'manifst'"),
    ("python -m service manifest models/a.onnx --version 1 --nme a", "arguments"),
    ("SERVICE_MODEL_DIRECTORY=models python -m service", "no setting SERVICE_MODEL_DIRECTORY"),
    (".venv/bin/python benchmarks/overlod.py", "there is no benchmarks/overlod.py"),
    (".venv/bin/python benchmarks/overload.py --second 1x", "invalid float value"),
    ("benchmarks/gpu.sh --quick", "has no option --quick"),
    ("uv run trian.py", "there is no trian.py"),
    ("python -c 'import sys, joblib; print('", "never closed|was never"),
    ("uv add --everything pandas", "uv add has no --everything"),
    ("git comit --all", "git has no comit"),
    ("git commit --mesage x", "git commit has no --mesage"),
    ("docker run --readonly a", "docker run has no --readonly"),
    ("pipx install inferplat", "does not install inferplate"),
    ("apt-get install wrkk", "does not know wrkk"),
    ("copier copy gh:inferplate/inferplat a", "from elsewhere"),
    ("curl http://127.0.0.1:8000/predictions --json '{}'", "no /predictions"),
    ("curl http://127.0.0.1:8000/predict --json '{'", "Expecting property name"),
    ("cd churn", "no command makes the folder churn"),
    ("cp ../routes.py src/routes.py", "a service has no src/routes.py"),
    ("git grep -l a | xargs sed -i 's#a#b'", "unterminated"),
    ("cosign verify ghcr.io/team/churn:1", "does not say whose"),
    (f"cosign verify a/b:1 {signed('build.yml', '1')}", "no workflow of a service"),
    (f"cosign verify a/b:2 {signed('ci.yml', '1')}", "is not signed at refs/tags/v1"),
    ("poetry add pandas", "nobody checks the program poetry"),
]


@pytest.mark.parametrize(("line", "reason"), WRONG, ids=[line for line, _ in WRONG])
def test_a_command_that_is_wrong_is_noticed(line: str, reason: str, checks: Checks) -> None:
    if line.startswith("docker") and not shutil.which("docker"):
        pytest.skip("there is no docker")
    *_, words = commands(line)
    with pytest.raises((Wrong, SyntaxError, ValueError), match=reason):
        checks.check(words)


def test_a_block_says_its_language() -> None:
    with pytest.raises(Wrong, match="a block in the language ''"):
        list(blocks("```\ninferplate new a\n```\n"))
