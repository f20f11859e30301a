"""The OpenAPI document and its page."""

import re
from typing import Any

import httpx
import pytest

from managed.conftest import Serve
from managed.support import Doubler
from service.core.tensors import TensorSpec

pytestmark = pytest.mark.anyio

OPERATIONS = {
    ("/v2", "get"),
    ("/v2/health/live", "get"),
    ("/v2/health/ready", "get"),
    ("/v2/models/{name}", "get"),
    ("/v2/models/{name}/ready", "get"),
    ("/v2/models/{name}/infer", "post"),
    ("/v2/models/{name}/versions/{version}", "get"),
    ("/v2/models/{name}/versions/{version}/ready", "get"),
    ("/v2/models/{name}/versions/{version}/infer", "post"),
    ("/metrics", "get"),
}


async def test_parameters_of_paths_have_the_model_as_example(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    parameters = paths["/v2/models/{name}/versions/{version}"]["get"]["parameters"]
    examples = {each["name"]: each.get("example") for each in parameters if each["in"] == "path"}
    assert examples == {"name": "doubler", "version": "1"}


@pytest.mark.parametrize(
    ("datatype", "size", "data"),
    [
        ("FP32", 2, [0, 0]),
        ("BOOL", 2, [False, False]),
        ("BYTES", 2, ["text", "text"]),
        ("FP32", 64, [0] * 64),
        ("FP32", 65, None),  # it would be long
        ("FP16", 2, None),  # it has no form in JSON
    ],
)
async def test_example_of_tensors(
    serve: Serve, datatype: str, size: int, data: list[Any] | None
) -> None:
    inputs, outputs = [(TensorSpec(name, datatype, (-1, size)),) for name in ("x", "y")]
    model = Doubler(inputs=inputs, outputs=outputs)
    async with serve(model, warmup=False) as service:
        paths = (await service.client.get("/openapi.json")).json()["paths"]
    content = paths["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]
    tensor = {"name": "x", "shape": [1, size], "datatype": datatype, "data": data}
    expected = None if data is None else {"inputs": [tensor]}
    assert content["application/json"].get("example") == expected


async def test_document_has_every_operation(client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    operations = {
        (path, method): item
        for path, items in document["paths"].items()
        for method, item in items.items()
    }
    assert operations.keys() >= OPERATIONS
    for (_, method), operation in operations.items():
        body = operation.get("requestBody")
        assert (method == "post") == (body is not None and body["required"])
    identifiers = [operation["operationId"] for operation in operations.values()]
    assert len(set(identifiers)) == len(identifiers)
    for reference in re.findall(r'"#/components/([^"]+)"', answer.text):
        kind, name = reference.split("/")
        assert name in document["components"][kind], reference


async def test_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    fetched = {"/docs": answer.text}
    for path in re.findall(r"""(?:src|href)=["']([^"']+)["']""", answer.text):
        if not path.startswith(("data:", "#")):
            found = await client.get(f"/{path}")
            assert found.status_code == 200, path
            fetched[path] = found.text
    assert fetched.keys() >= {"/docs", "docs/docs.css", "docs/docs.js", "openapi.json"}
    del fetched["openapi.json"]
    for path, text in fetched.items():
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+|@import", text), path
