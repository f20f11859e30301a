"""The checks of ``inferplate-verify``: each of them fails on variants that are broken for it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import EVERY_VARIANT

from inferplate.errors import InferplateError
from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools import service
from inferplate_tools.errors import CheckFailed
from inferplate_tools.verify import requirements, server
from inferplate_tools.verify.checks import CHECKS, IN_PARTS
from inferplate_tools.verify.command import verify_variants
from inferplate_tools.verify.requirements import require
from inferplate_tools.verify.suites import check_stand_ins
from inferplate_tools.workbench import Workbench

VARIANT, PROTOCOL = (
    Variant("fastapi", "onnxruntime", "uvicorn", task) for task in ("", WITHOUT_HANDLER)
)
Breaks = Callable[["Case"], Workbench]


@pytest.fixture
def broken(bench: Workbench, tmp_path: Path) -> Breaks:
    """Give a workbench in which a file of the variant, or of the template, is changed."""

    def make(case: "Case") -> Workbench:
        made = Workbench(tmp_path / "bench", bench.python)
        project = made.root / "variants" / case.variant.name
        shutil.copytree(bench.template(), made.root / "template")
        shutil.copytree(bench.project(case.variant), project)
        shutil.copytree(
            bench.artifact(case.variant), made.root / "trained/onnxruntime-tabular/models"
        )
        path, old, new = case.path, case.old, case.new
        changed = (made.root / "template" if case.template else project) / path
        text = changed.read_text(encoding="utf-8") if changed.exists() else ""
        assert text.count(old) == 1 or not old
        changed.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")
        return made

    return make


class Case(NamedTuple):
    """A variant that is broken. ``path`` and ``template``: where; ``told``: what the check says."""

    check: str
    path: str
    old: str
    new: str
    told: str
    template: bool = False
    variant: Variant = VARIANT


MODULE = "src/service/predict.py"
FRONT = "src/service/web/front.py"
MAIN = "src/service/__main__.py"
SERVER = "src/service/server.py"
PROJECT = "pyproject.toml"
FAILS = "\n\ndef test_broken() -> None:\n    raise AssertionError\n"
CASES = {
    "a leftover of the template": Case(
        *("render", "template/service/healthcheck.py", "", "# {{ '{{ slug }}' }}\n"),
        *("healthcheck.py", True),
    ),
    "renders that differ": Case(
        *("render", "template/service/README.md.jinja", "", "{{ range(10**4) | random }}\n"),
        *("two renders differ", True),
    ),
    "an import too many": Case("lint", MODULE, "", "import os\n", "F401"),
    "another format": Case("lint", MODULE, "", "number  =  1\n", "number = 1"),
    "a wrong type": Case("types", MODULE, "", 'number: int = ""\n', "Incompatible types"),
    "no type": Case("types", MODULE, "", "def f(a): return a\n", "missing a type annotation"),
    "an import": Case(
        *("dependencies", MODULE, "", "import yaml\n"),
        "src imports yaml, of pyyaml, without declaring it",
    ),
    "an import of the tests": Case(
        "dependencies", "tests/test_model.py", "", "import yaml\n", "tests imports yaml"
    ),
    "an import of the training": Case(
        "dependencies", "train.py", "", "import yaml\n", "train.py imports yaml"
    ),
    "a declaration": Case(
        *("dependencies", PROJECT, "\ndependencies = [", '\ndependencies = [\n  "pyyaml",'),
        "pyproject.toml declares pyyaml, which src does not import",
    ),
    "a declaration for the training": Case(
        *("dependencies", PROJECT, "\ntrain = [", '\ntrain = [\n  "pyyaml",'),
        "the group 'train' declares pyyaml",
    ),
    "a description": Case(
        "openapi", MODULE, '"The most probable species"', '"A species"', "is not openapi-iris.json"
    ),
    "a managed test": Case("suite", "tests/managed/test_cpu.py", "", FAILS, "test_broken"),
    "a test of the owner": Case("suite", "tests/test_model.py", "", FAILS, "test_broken"),
    "a managed test, in parts": Case(
        "stand-ins", "tests/managed/test_cpu.py", "", FAILS, "test_broken"
    ),
    "a test of the owner, in parts": Case("model", "tests/test_model.py", "", FAILS, "test_broken"),
    "a managed test of the owner's files": Case(
        *("stand-ins", "tests/managed/test_cpu.py", ""),
        "\n\ndef test_broken() -> None:\n"
        '    assert Path(cpu.__file__).parents[1].joinpath("runtime.py").exists()\n',
        "test_broken",
    ),
    "a service that ends": Case(
        "server", MAIN, "    _exit(main())", "    _exit(3)", "ended with 3"
    ),
    "a service that does not listen": Case(
        *("server", MAIN, "    _exit(main())", "    threading.Event().wait(60)"),
        "the service does not listen after 3 s",
    ),
    "another prediction": Case(
        *("server", "tests/golden.json", '"setosa": 0.9785', '"setosa": 0.8785'),
        "tests/golden.json has",
    ),
    "other tensors": Case(
        *("server", "tests/golden.json", "0.9785", "0.8785", "tests/golden.json has"),
        variant=PROTOCOL,
    ),
    "another name of the model": Case(
        *("server", "src/service/core/predictor.py", "return self._engine.model\n"),
        'return ModelInfo(name="other", version="1")\n',
        "names the model",
    ),
    "rows of others in the protocol": Case(
        *("server", "src/service/web/oip/endpoints.py"),
        "        tensors = await engine.infer(inputs, cycle.context)\n",
        "        tensors = await engine.infer(inputs, cycle.context)\n"
        "        tensors = {name: array[::-1] for name, array in tensors.items()}\n",
        "for instance 0 /predict answers",
    ),
    "other binary answers": Case(
        *("server", "src/service/web/oip/codec.py", "else buffer.tobytes()\n"),
        "else buffer[::-1].tobytes()\n",
        "answers differently in binary and in JSON",
    ),
    "another content type": Case(
        *("server", "src/service/web/oip/endpoints.py"),
        *('b"application/octet-stream"', 'b"application/x"'),
        "answers a request for binary tensors with",
    ),
    "other counts": Case(
        *("server", FRONT, "            metrics.record_answer(\n"),
        "            metrics.record_answer(method, cycle.route, cycle.status, 0, 0, 0)\n"
        "            metrics.record_answer(\n",
        "requests to /predict",
    ),
    "a request that stays in flight": Case(
        *("server", FRONT, "            del self._in_flight[cycle]\n", ""),
        "requests that were answered are still in flight",
    ),
    "a request in flight that is uncounted": Case(
        *("server", "src/service/ops/metrics.py", "_in_flight.set(in_flight)", "_in_flight.set(1)"),
        "a request with half a body is not in flight",
    ),
    "SIGTERM without effect": Case(
        *("server", "src/service/ops/process.py", "        at_once = not delay or draining()"),
        "        return\n        at_once = not delay or draining()",
        "still reports ready 2 s after SIGTERM",
    ),
    "a request that SIGTERM cuts": Case(
        *("server", SERVER, "self.should_exit = True", "__import__('os')._exit(0)"),
        "SIGTERM",
    ),
    "a request in flight that is refused": Case(
        *("server", "src/service/web/predict_front.py", "        if not body:\n"),
        "        from service.ops import process\n        if process.draining():\n"
        "            raise NotFound\n        if not body:\n",
        "the request in flight at SIGTERM answers 404",
    ),
    "another exit code": Case(
        *("server", MAIN, "    _exit(main())", "    _exit(main() or 3)"), "exited with 3"
    ),
    "no end": Case(
        *("server", SERVER, "self.should_exit = True", "pass"), "still runs 2 s after SIGTERM"
    ),
}


def leave_out_others(project: Path, test: str) -> None:
    """Remove most tests of a project, which would take their time."""
    for path in project.glob("tests/managed/test_*.py"):
        if path != project / test and path.name != "test_cpu.py":
            path.unlink()


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "GRACEFUL_SECONDS", 1.0)
    monkeypatch.setattr(service, "_EXIT_MARGIN", 1.0)
    monkeypatch.setattr(server, "_NOTICE_SECONDS", 2.0)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_broken_variant_fails(
    case: Case, broken: Breaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "listen" in case.told:
        monkeypatch.setattr(service, "_LISTEN_SECONDS", 3.0)
    made = broken(case)
    if case.check in ("suite", "stand-ins"):
        leave_out_others(made.project(case.variant), case.path)
    with pytest.raises(CheckFailed) as failure:
        {**CHECKS, **{check.name: check for check in IN_PARTS}}[case.check].run(made, case.variant)
    assert case.told in str(failure.value)


def test_the_same_files_are_tested_once(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Path] = []

    def run(self: Workbench, command: object, project: Path, **_: object) -> str:
        ran.append(project)
        return ""

    made = Workbench(tmp_path / "bench", bench.python)
    monkeypatch.setattr(Workbench, "run", run)
    variants = [
        VARIANT,
        Variant("fastapi", "xgboost", "granian"),
        Variant("fastapi", "transformers", "granian"),
        Variant("litestar", "onnxruntime", "uvicorn"),
        PROTOCOL,
    ]
    for variant in variants:
        shutil.copytree(bench.project(variant), made.root / "variants" / variant.name)
        check_stand_ins(made, variant)
    assert len(ran) == len(set(ran)) == 4  # the first two have the same
    changed = made.root / "variants" / variants[1].name / "src/service/core/cpu.py"
    changed.write_text(changed.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    check_stand_ins(made, variants[1])
    assert len(ran) == 5
    assert not [path for path in ran if (path / "src/service/runtime.py").exists()]


def test_a_failure_with_the_same_files_is_found_once_and_fails_for_all(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Path] = []

    def run(self: Workbench, command: object, project: Path, **_: object) -> str:
        ran.append(project)
        raise CheckFailed("test_broken")

    made = Workbench(tmp_path / "bench", bench.python)
    monkeypatch.setattr(Workbench, "run", run)
    for variant in (VARIANT, Variant("fastapi", "xgboost", "granian")):
        shutil.copytree(bench.project(variant), made.root / "variants" / variant.name)
        with pytest.raises(CheckFailed, match="test_broken"):
            check_stand_ins(made, variant)
    assert len(ran) == 1


def test_what_is_not_installed_is_named_before_anything_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require(EVERY_VARIANT)
    lacking = {"granian", "litestar", "mypy"}
    monkeypatch.setattr(requirements, "is_installed", lambda name: name not in lacking)
    with pytest.raises(InferplateError, match="here: mypy; 'make matrix' installs"):
        require([VARIANT])
    with pytest.raises(InferplateError, match="here: granian, litestar, mypy;"):
        require([VARIANT, Variant("litestar", "xgboost", "granian")])
    with pytest.raises(InferplateError, match="here: granian, mypy;"):
        verify_variants(framework=["fastapi"], runtime=["xgboost"], server=["granian"])
