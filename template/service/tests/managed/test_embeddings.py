"""``/v1/embeddings`` exists for embeddings only, and answers as OpenAI's API does."""

import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from managed.conftest import Serve, Start
from managed.support import Doubler, Service, until, until_ready, write_model
from service.core import manifest
from service.core.errors import Refused
from service.core.tensors import Tensors, TensorSpec

pytestmark = pytest.mark.anyio

PATH = "/v1/embeddings"
TEXT = TensorSpec("text", "BYTES", (-1,))
VECTOR = TensorSpec("vector", "FP32", (-1, 3))
TOKENS = TensorSpec("tokens", "INT64", (-1,))
TEXTS = ["a", "bcd", ""]


class Embedder(Doubler):
    """A model whose embedding of a text is made of its length; it refuses "no"."""

    def __init__(self, *outputs: TensorSpec) -> None:
        super().__init__((TEXT,), outputs or (VECTOR, TOKENS))

    def run(self, batch: Tensors) -> Tensors:
        texts = batch["text"].tolist()
        self.batches.append(len(texts))
        self.gate.wait(timeout=5)
        if b"no" in texts:
            raise Refused("is not taken", field="text", instance=texts.index(b"no"))
        lengths = np.array([len(text) for text in texts])
        numbers = np.where(lengths == 7, np.nan, lengths)
        vectors = numbers[:, None] * np.array([[0.1, -1, 2]])
        made = {"vector": vectors.astype(np.float32), "tokens": lengths}
        return {spec.name: made[spec.name] for spec in self.outputs}


def vector(text: str) -> list[float]:
    made: list[float] = np.array([0.1 * len(text), -len(text), 2 * len(text)], np.float32).tolist()
    return made


@pytest.fixture
def embed(start: Start, tmp_path: Path) -> Any:
    def embed(model: Embedder, **changed: Any) -> AbstractAsyncContextManager[Service]:
        described = {"batch": changed.pop("batch", "always"), "task": "embedding"}
        folder = write_model(tmp_path / "embedder", model, **described)
        return start(folder, model, **changed)

    return embed


@pytest.fixture
async def client(embed: Any, failures: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    async with embed(Embedder()) as service:
        await until_ready(service, failures)
        yield service.client


def body(given: Any, **changed: Any) -> dict[str, Any]:
    return {"model": "doubler", "input": given, **changed}


async def test_texts_become_vectors_in_their_order(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=body(TEXTS))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert (document["object"], document["model"]) == ("list", "doubler")
    for index, (item, text) in enumerate(zip(document["data"], TEXTS, strict=True)):
        assert (item["object"], item["index"]) == ("embedding", index)
        assert np.array(item["embedding"], np.float32).tolist() == vector(text)
    alone = await client.post(PATH, json=body("bcd", encoding_format="float", dimensions=3))
    assert alone.json()["data"][0]["embedding"] == document["data"][1]["embedding"]


async def test_base64_has_the_exact_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=body(TEXTS, encoding_format="base64", user="me"))
    for item, text in zip(answer.json()["data"], TEXTS, strict=True):
        assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist() == vector(text)


async def test_many_texts_are_compressed_if_asked(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=body(["abc"] * 60), headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["data"]) == 60


async def test_a_large_request_waits_for_its_turn(embed: Any, failures: list[str]) -> None:
    async with embed(Embedder(), max_predict_values=20_000) as service:
        await until_ready(service, failures)
        async with service.app._turns.turn():
            small = await service.client.post(PATH, json=body(TEXTS))
            assert small.status_code == 200
            commas = body("," * 10_001)
            late = await service.client.post(PATH, json=commas, headers={"request-timeout": "0.2"})
            assert late.status_code == 504
        assert (await service.client.post(PATH, json=commas)).status_code == 200


@pytest.mark.parametrize("batch", ["always", "never"])
async def test_texts_share_a_batch_only_if_they_may(
    batch: str, embed: Any, failures: list[str]
) -> None:
    model = Embedder()
    async with embed(model, batch=batch) as service:
        await until_ready(service, failures)
        model.batches.clear()
        answer = await service.client.post(PATH, json=body(TEXTS))
        assert [len(item["embedding"]) for item in answer.json()["data"]] == [3, 3, 3]
        assert model.batches == ([3] if batch == "always" else [1, 1, 1])
        model.batches.clear()
        await service.client.post(PATH, json=body(TEXTS[:2]))
        assert model.batches == ([2] if batch == "always" else [1, 1])
        refused = await service.client.post(PATH, json=body(["a", "no"]))
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "input.1"


@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": [[1, 2], [3]]}, 400, "input"),
        ({"input": ["a", 1]}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": {"text": "a"}}, 400, "input"),
        ({"model": "another"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"dimensions": 2}, 400, "dimensions"),
        ({"dimensions": True}, 400, "dimensions"),
        ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"unknown": 1}, 400, "unknown"),
        ({"input": "seven.."}, 500, None),
    ],
    ids=str,
)
async def test_what_is_wrong_is_told_as_openai_does(
    changed: dict[str, Any], status: int, param: str | None, client: httpx.AsyncClient
) -> None:
    answer = await client.post(PATH, json=body("a") | changed)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert error["code"] == ("model_not_found" if status == 404 else None)
    ids_of_tokens = isinstance(changed.get("input"), list) and changed["input"][:1] in (
        [1],
        [[1, 2]],
    )
    assert ("ids of tokens" in error["message"]) == ids_of_tokens


async def test_a_missing_input_is_told_from_a_wrong_one(client: httpx.AsyncClient) -> None:
    missing, wrong = [
        (await client.post(PATH, json=given)).json()["error"]["message"]
        for given in ({"model": body("a")["model"]}, body("a") | {"input": 1})
    ]
    assert missing == "'input': is required."
    assert wrong == "'input': must be a text, or a list of texts."


async def test_bodies_methods_and_paths(client: httpx.AsyncClient) -> None:
    json = {"content-type": "application/json"}
    for answer, status in (
        (await client.get(PATH), 405),
        (await client.post("/v1/completions", json={}), 404),
        (await client.post(PATH, content=b"{}"), 415),
        (await client.post(PATH, content=b"", headers=json), 400),
        (await client.post(PATH, content=b"[]", headers=json), 400),
        (await client.post(PATH, content=b'{"input":', headers=json), 400),
        (await client.post(PATH, content=b'{"input":NaN}', headers=json), 400),
        (await client.post(PATH, json=body("a"), headers={"request-timeout": "-1"}), 400),
    ):
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"]
    assert (await client.get(PATH)).headers["allow"] == "POST"
    assert '"/v1/embeddings"' in (await client.get("/metrics")).text


async def test_it_needs_the_key_as_other_predictions_do(embed: Any, failures: list[str]) -> None:
    async with embed(Embedder(), api_keys="a-key-of-sixteen-characters") as service:
        await until_ready(service, failures)
        answer = await service.client.post(PATH, json=body("a"))
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        key = {"authorization": "Bearer a-key-of-sixteen-characters"}
        assert (await service.client.post(PATH, json=body("a"), headers=key)).status_code == 200


async def test_values_and_deadlines_are_limited(embed: Any, failures: list[str]) -> None:
    model = Embedder()
    async with embed(model, max_predict_values=30, max_instances=2) as service:
        await until_ready(service, failures)
        answer = await service.client.post(PATH, json=body(["a"] * 3))
        assert answer.status_code == 413
        assert "up to 2 texts" in answer.json()["error"]["message"]
        answer = await service.client.post(PATH, json=body(["a"] * 60))
        assert answer.status_code == 413
        assert "MAX_PREDICT_VALUES" in answer.json()["error"]["message"]
        model.gate.clear()
        late = {"request-timeout": "0.2"}
        answer = await service.client.post(PATH, json=body("a"), headers=late)
        model.gate.set()
        assert answer.status_code == 504


async def test_a_model_that_counts_no_tokens(embed: Any, failures: list[str]) -> None:
    async with embed(Embedder(VECTOR)) as service:
        await until_ready(service, failures)
        answer = await service.client.post(PATH, json=body("abc"))
        assert answer.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


async def test_other_models_do_not_have_it(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(PATH, json=body("a"))
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert PATH not in (await service.client.get("/openapi.json")).json()["paths"]


async def test_the_documentation_has_it(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    assert operation["requestBody"]["required"]
    assert operation["requestBody"]["content"]["application/json"]["example"]["model"] == "doubler"
    assert {"400", "404", "504"} <= operation["responses"].keys()
    assert "embeddings" in [tag["name"] for tag in document["tags"]]


@pytest.mark.parametrize(
    "outputs",
    [
        (TOKENS,),
        (TensorSpec("states", "FP32", (-1, -1, 3)),),
    ],
)
async def test_a_manifest_without_a_vector_is_refused(
    outputs: tuple[TensorSpec, ...], tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact"
    artifact.write_bytes(b"any")
    with pytest.raises(ValidationError, match="embedding"):
        manifest.describe(
            artifact,
            name="other",
            version="1",
            runtime="test",
            inputs=(TEXT,),
            outputs=outputs,
            task="embedding",
        )


async def test_a_model_that_takes_no_texts_is_refused(
    start: Start, tmp_path: Path, failures: list[str]
) -> None:
    model = Doubler(outputs=(TensorSpec("y", "FP32", (-1, 2)),))
    folder = write_model(tmp_path / "numbers", model, batch="always", task="embedding")
    async with start(folder, model):
        await until(lambda: bool(failures))
    assert "it must take texts itself (BYTES [-1])" in failures[0]
