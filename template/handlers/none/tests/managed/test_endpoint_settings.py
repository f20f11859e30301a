"""Every setting of the endpoints beside the protocol does something, off its default."""

from typing import Any

import pytest

from managed.conftest import Serve
from managed.support import until_ready
from managed.test_embeddings import PATH, Embedder, body, embed
from managed.test_every_setting import around
from service.ops.endpoint_settings import EndpointSettings

__all__ = ["embed"]  # a fixture

pytestmark = pytest.mark.anyio

ORDER = b'{"count":3}'


def test_there_is_a_test_for_every_setting() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert EndpointSettings.model_fields.keys() <= tested


async def test_max_predict_values(serve: Serve) -> None:
    values = sum(map(ORDER.count, (b",", b"[", b"{", b":")))
    fitting, surplus = await around(serve, "max_predict_values", values, ORDER, "/own/orders")
    assert (fitting < 300, surplus) == (True, 413)


async def test_max_instances(embed: Any, failures: list[str]) -> None:
    async with embed(Embedder(), max_instances=2) as service:
        await until_ready(service, failures)
        found = [await service.client.post(PATH, json=body(["a"] * count)) for count in (2, 3)]
    assert [answer.status_code for answer in found] == [200, 413]
