"""Compressed bodies: what clients accept, what is not complete, and what a small one may cost."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from managed.conftest import Serve
from managed.endpoints import ALL_ENDPOINTS, JSON_PATHS
from managed.support import INFER, Doubler, rows

pytestmark = pytest.mark.anyio

BODY = json.dumps(rows(*range(20, 320))).encode()
LENGTH = "Inference-Header-Content-Length"
MANY = 150_000
"""Rows of an answer of over a megabyte, which is sent in pieces."""


ACCEPTED = [
    ("gzip", "gzip"),
    ("GZIP", "gzip"),
    ("deflate, gzip;q=0.5", "gzip"),
    ("deflate", "deflate"),
    ("br, gzip", "gzip"),
    ("gzip;q=0.001", "gzip"),
    ("gzip;q=1.000", "gzip"),
    ("gzip;q=0", None),
    ("gzip;q=0.0", None),
    ("gzip; q=0.000", None),
    ("gzip;q=0, deflate", "deflate"),
    ("gzip;q=0, deflate;q=0.00", None),
    ("identity", None),
    ("br", None),
]


@pytest.mark.parametrize(("accepted", "encoding"), ACCEPTED)
async def test_only_what_is_accepted_is_compressed(
    serve: Serve, accepted: str, encoding: str | None
) -> None:
    await check_compression(serve, BODY, {"accept-encoding": accepted}, encoding)


@pytest.mark.parametrize(("accepted", "encoding"), [ACCEPTED[2], ACCEPTED[3], ACCEPTED[7]])
async def test_what_is_sent_in_pieces_is_compressed_alike(
    serve: Serve, accepted: str, encoding: str | None
) -> None:
    body, headers = binary_request(MANY)
    await check_compression(serve, body, {**headers, "accept-encoding": accepted}, encoding)


async def check_compression(
    serve: Serve, body: bytes, headers: dict[str, str], encoding: str | None
) -> None:
    async with serve(Doubler(), max_queue_size=2 * MANY) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["vary"] == "accept-encoding"


def binary_request(count: int) -> tuple[bytes, dict[str, str]]:
    data = np.ones((count, 2), np.float32).tobytes()
    tensor = {"name": "x", "shape": [count, 2], "datatype": "FP32"}
    entry = {**tensor, "parameters": {"binary_data_size": len(data)}}
    document = {"inputs": [entry], "parameters": {"binary_data_output": True}}
    header = json.dumps(document).encode()
    return header + data, {LENGTH: str(len(header))}


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_what_is_cut_off_is_refused(
    serve: Serve, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    whole = compress(BODY)
    headers = {"content-encoding": encoding}
    cuts = [0, 1, 9, len(whole) // 2, len(whole) - 9, len(whole) - 4, len(whole) - 1]
    async with serve(Doubler()) as service:
        for cut in cuts:
            answer = await service.client.post(INFER, content=whole[:cut], headers=headers)
            assert answer.status_code == 400, cut
            assert f"not complete {encoding}" in answer.json()["error"]
        assert (await service.client.post(INFER, content=whole, headers=headers)).is_success


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", zlib.compress(BODY)),
        ("deflate", gzip.compress(BODY)),
        ("gzip", BODY),
        ("deflate", BODY),
        ("gzip", gzip.compress(BODY) + b"more"),
        ("deflate", zlib.compress(BODY) + b"more"),
        ("deflate", zlib.compress(BODY) * 2),
        ("gzip", gzip.compress(BODY)[:-8] + bytes(8)),
        ("deflate", zlib.compress(BODY)[:-4] + bytes(4)),
    ],
)
async def test_what_is_something_else_is_refused(serve: Serve, encoding: str, body: bytes) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(
            INFER, content=body, headers={"content-encoding": encoding}
        )
    assert answer.status_code == 400
    assert encoding in answer.json()["error"]


@pytest.mark.parametrize("path", [INFER, *JSON_PATHS])
async def test_small_body_that_unpacks_to_a_large_one_costs_no_more_than_its_limit(
    serve: Serve, path: str
) -> None:
    limit = 2**20
    bomb = gzip.compress(bytes(64 * limit), compresslevel=1)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert len(bomb) < limit
    async with serve(Doubler(), **ALL_ENDPOINTS, max_body_bytes=limit) as service:
        await service.client.post(path, content=bomb, headers=headers)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            answer = await service.client.post(path, content=bomb, headers=headers)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == 413
    assert peak - before < 8 * limit
