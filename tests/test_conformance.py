"""Schemathesis finds nothing in an emitted service of each framework: all checks, in process.

Two of its findings are expected: a 504 that ``Request-Timeout`` asks
for, and a 400 where tensors fit the OpenAPI document but not the model.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.verify.suites import FOREIGN_PLUGINS
from inferplate_tools.workbench import Workbench

CONFORMANCE = Path(__file__).parent / "conformance"
FRAMEWORKS = ("fastapi", "litestar", "ninja")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_requests_of_the_openapi_document(
    framework: str,
    bench: Workbench,
    copy_of: Callable[[Variant], Path],
    pytestconfig: pytest.Config,
) -> None:
    project = copy_of(Variant(framework, "onnxruntime", "uvicorn"))
    shutil.copytree(CONFORMANCE, project / "tests/conformance")
    disabled = [part for plugin in FOREIGN_PLUGINS for part in ("-p", f"no:{plugin}")]
    command = [bench.python, "-m", "pytest", "-q", "--show-capture=stdout", *disabled]
    exhaustive = pytestconfig.getoption("--exhaustive")
    bench.run(
        [*command, "tests/conformance"],
        project,
        timeout=2400 if exhaustive else 120,
        settings={
            "EXAMPLES": "1100" if exhaustive else "5",
            "REQUESTS": "10000" if exhaustive else "400",
        },
    )
