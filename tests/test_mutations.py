"""Mutated requests, each of which is refused in order or answered rightly."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Covers

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

MUTATE = Path(__file__).parent / "mutations/mutate.py"
COUNTS = {True: 17_000, False: 5_000}
"""Requests of each of three kinds, for each framework: once a week, and in every run."""


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["fastapi", "litestar", "ninja"])
def test_mutated_requests(
    framework: str,
    bench: Workbench,
    copy_of: Callable[[Variant], Path],
    covers: Covers,
    pytestconfig: pytest.Config,
) -> None:
    count = COUNTS[bool(pytestconfig.getoption("--exhaustive"))]
    variant = Variant(framework, "onnxruntime", "uvicorn")
    covers(f"{3 * count:,} mutated requests: refused in order, or answered rightly", variant, 3)
    project = copy_of(variant)
    printed = bench.run(
        [bench.python, "-W", "ignore::RuntimeWarning", str(MUTATE), "--count", str(count)],
        project,
        timeout=600,
        settings={"PYTHONPATH": "src:tests"},
    )
    report = json.loads(printed.splitlines()[-1])
    assert report.pop("logged") == []
    for kind, found in report.items():
        assert found["wrong"] == 0, found["first"]
        assert found["statuses"]["200"] > count // 4, kind
    assert report["mixed"]["together"] > count // 100, "requests shared batches"
