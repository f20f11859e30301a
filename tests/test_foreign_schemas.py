"""Schemas of every kind are served alike by each framework, and the emitted checks fit them.

``foreign/`` has a folder for each schema, with a ``predict.py`` and with predictions and refusals
that every framework must give; a model that adds numbers; and the tests that are run inside an
emitted service. What depends on the framework, requests and responses, is tested there for all
schemas in each framework. What an owner runs, with files of one schema in place, is the same in
all frameworks, and is tested in one for each schema.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from conftest import FOREIGN

from inferplate_tools.verify.suites import FOREIGN_PLUGINS
from inferplate_tools.workbench import Workbench

FRAMEWORKS: Final = ("fastapi", "litestar", "ninja")
SCHEMAS: Final = sorted(path.parent.name for path in FOREIGN.glob("*/predict.py"))


def put(schema: str, project: Path) -> None:
    """Make a schema, and the predictions that are expected with it, the project's own."""
    shutil.copy(FOREIGN / schema / "predict.py", project / "src/service")
    cases = json.loads((FOREIGN / schema / "cases.json").read_bytes())
    (project / "tests/golden.json").write_text(json.dumps(cases["golden"]), encoding="utf-8")


def suite(bench: Workbench, project: Path, *tests: str) -> str:
    """Run emitted tests and return what pytest printed."""
    disabled = [part for plugin in FOREIGN_PLUGINS for part in ("-p", f"no:{plugin}")]
    command = [bench.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *disabled, *tests]
    return bench.run(command, project, timeout=300)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_framework_answers_alike(
    framework: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    project = adder(framework)
    shutil.copytree(FOREIGN, project / "tests/foreign")
    suite(bench, project, "tests/foreign")


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_emitted_checks_fit_each_schema(
    framework: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    project = adder(framework)
    for schema in SCHEMAS[FRAMEWORKS.index(framework) :: len(FRAMEWORKS)]:
        put(schema, project)
        for arguments in (["check"], ["format", "--check"]):
            bench.run([bench.python, "-m", "ruff", *arguments, "--no-cache"], project, timeout=60)
        with bench.mypy("src", "tests/test_model.py") as command:
            bench.run(command, project, timeout=300)
        assert "3 passed" in suite(bench, project, "tests/test_model.py")


@pytest.mark.slow
@pytest.mark.parametrize("schema", ["no_examples"])
def test_whole_suite_does_not_depend_on_the_schema(
    schema: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    """The suite has stand-ins for the owner's modules, so one schema shows it for all."""
    project = adder("litestar")
    put(schema, project)
    suite(bench, project)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_predict_its_tests_are_skipped(
    framework: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    """The example's predict.py stays, which does not fit the model."""
    project = adder(framework)
    (project / ".env").write_text("SERVICE_PREDICT_ENDPOINT=false\n", encoding="utf-8")
    (project / "tests/test_own.py").write_text(
        "import pytest\n\n\n@pytest.mark.anyio\nasync def test_ready(client):\n"
        '    assert (await client.get("/v2/health/ready")).status_code == 200\n'
        '    assert (await client.post("/predict", json={})).status_code == 404\n',
        encoding="utf-8",
    )
    printed = suite(bench, project, "tests/test_model.py", "tests/test_own.py")
    assert "1 passed, 3 skipped" in printed
