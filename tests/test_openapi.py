"""The OpenAPI documents are valid, and the snapshots are written here."""

import json

import pytest
from conftest import EVERY_VARIANT
from openapi_spec_validator import validate

from inferplate.matrix import Variant
from inferplate.openapi import document, snapshot_path
from inferplate.workbench import Workbench

BY_EXAMPLE = list({variant.task: variant for variant in reversed(EVERY_VARIANT)}.values())
"""One for each task."""


@pytest.mark.parametrize("example", BY_EXAMPLE, ids=str)
def test_the_snapshot_is_valid_openapi(
    example: Variant, bench: Workbench, request: pytest.FixtureRequest
) -> None:
    path = snapshot_path(bench, example)
    if request.config.getoption("--update-snapshots"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(document(bench, example), encoding="utf-8")
    written = json.loads(path.read_bytes())
    validate(written)
    assert written["openapi"].startswith("3.1.")
