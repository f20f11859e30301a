"""Schemas of every kind, in an emitted service; each has a folder with a predict.py and cases."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from managed.importing import Shell, import_with_stand_ins
from managed.support import Service, running, until_ready

from service import runtime
from service.ops.settings import Settings

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "models"
SCHEMAS = sorted(path.parent.name for path in HERE.glob("*/predict.py"))


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shell(schema: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = import_with_stand_ins(HERE / schema)
    shell.put_into_place(monkeypatch)
    return shell


@pytest.fixture
def cases(schema: str) -> Any:
    return json.loads((HERE / schema / "cases.json").read_bytes())


@asynccontextmanager
async def serving(shell: Shell, failures: list[str]) -> AsyncIterator[Service]:
    app = shell.main.create_app(Settings(model_dir=MODELS), runtime)
    async with running(app) as service:
        await until_ready(service, failures)
        yield service


async def predict(service: Service, *instances: Any) -> httpx.Response:
    return await service.client.post("/predict", json={"instances": instances})


async def test_predictions_and_refusals(shell: Shell, cases: Any, failures: list[str]) -> None:
    valid = [case["instance"] for case in cases["golden"]]
    expected = [case["prediction"] for case in cases["golden"]]
    async with serving(shell, failures) as service:
        answer = await predict(service, *valid)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected
        for case in cases["refused"]:
            for before in ([], valid[:1], valid[:1] * 150):
                answer = await predict(service, *before, case["instance"])
                place = f"instances.{len(before)}"
                fields = [f"{place}.{field}".rstrip(".") for field in case["fields"]]
                assert answer.status_code == 422, answer.text
                assert [error["field"] for error in answer.json()["errors"]] == fields


async def test_document(shell: Shell, failures: list[str]) -> None:
    async with serving(shell, failures) as service:
        document = (await service.client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        own = shell.main.Instance.model_json_schema()
        own.pop("$defs", None)
        if "$ref" not in own:
            renamed = json.loads(json.dumps(own).replace("#/$defs/", "#/components/schemas/"))
            assert schemas["Instance"] == renamed
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        example = content["application/json"].get("example")
        if example is not None:
            answer = await predict(service, *example["instances"])
            assert answer.status_code == 200, answer.text
