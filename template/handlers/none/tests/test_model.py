"""The model answers what golden.json says. This file is yours: an update never touches it."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

pytestmark = pytest.mark.anyio

TOLERANCE: Final = 0.02
"""By how much a number may be off."""

GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_bytes())
MANIFEST: Final = Path(__file__).parents[1] / "models/manifest.json"


async def test_each_alone(client: httpx.AsyncClient) -> None:
    for entry in GOLDEN:
        assert_close(await infer(client, entry["inputs"]), entry["outputs"])


async def test_all_at_a_time(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*[infer(client, entry["inputs"]) for entry in GOLDEN])
    for answer, entry in zip(answers, GOLDEN, strict=True):
        assert_close(answer, entry["outputs"])


async def infer(client: httpx.AsyncClient, inputs: list[Any]) -> list[dict[str, Any]]:
    name = json.loads(MANIFEST.read_bytes())["name"]
    answer = await client.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    outputs: list[dict[str, Any]] = answer.json()["outputs"]
    return outputs


def assert_close(outputs: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare the outputs that are expected, by their names."""
    by_name = {output["name"]: output for output in outputs}
    for each in expected:
        found = by_name[each["name"]]
        assert found["shape"] == each["shape"]
        for value, right in zip(found["data"], each["data"], strict=True):
            is_number = isinstance(right, float)
            assert value == (pytest.approx(right, rel=1e-3, abs=TOLERANCE) if is_number else right)
