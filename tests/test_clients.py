"""Real clients that nobody here wrote: tritonclient, against each framework on each server."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from conftest import ALL_VARIANTS, Covers
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from inferplate.live import Golden
from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.workbench import Workbench

PAIRS = [variant for variant in ALL_VARIANTS if variant.runtime == "onnxruntime"]
TRANSFERS = list(itertools.product((False, True), (False, True), (None, "gzip", "deflate")))
"""Binary input, binary output, compression."""


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.framework}-{pair.server}")
def test_tritonclient(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("tritonclient: sync and asyncio, JSON, binary, gzip, deflate", pair, len(PAIRS))
    project = copy_of(pair)
    golden = Golden.of(project)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        url = f"127.0.0.1:{service.port}"
        ask_sync(url, golden)
        asyncio.run(ask_asyncio(url, golden))


def ask_sync(url: str, golden: Golden) -> None:
    client = tritonclient.http.InferenceServerClient(url)
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(golden.model)
        assert client.is_model_ready(golden.model, golden.version)
        assert not client.is_model_ready("another")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata(golden.model)
        for binary_in, binary_out, compression in TRANSFERS:
            result = client.infer(
                golden.model,
                inputs(tritonclient.http, golden, binary_in),
                outputs=outputs(tritonclient.http, metadata, binary_out),
                request_id="asked-by-triton",
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            check(result, metadata, golden)
            assert result.get_response()["id"] == "asked-by-triton"
        check(client.infer(golden.model, inputs(tritonclient.http, golden, True)), metadata, golden)
        with pytest.raises(InferenceServerException, match="model"):
            client.infer("another", inputs(tritonclient.http, golden, True))
    finally:
        client.close()


async def ask_asyncio(url: str, golden: Golden) -> None:
    async with tritonclient.http.aio.InferenceServerClient(url) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready(golden.model)
        metadata = await client.get_model_metadata(golden.model)
        for binary_in, binary_out, compression in TRANSFERS:
            result = await client.infer(
                golden.model,
                inputs(tritonclient.http.aio, golden, binary_in),
                outputs=outputs(tritonclient.http.aio, metadata, binary_out),
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            check(result, metadata, golden)
        answers = await asyncio.gather(
            *(
                client.infer(golden.model, inputs(tritonclient.http.aio, golden, True))
                for _ in range(8)
            )
        )
        for answer in answers:
            check(answer, metadata, golden)


def inputs(module: Any, golden: Golden, binary: bool) -> list[Any]:
    made = []
    for given in golden.inputs:
        tensor = module.InferInput(given.name, given.shape, given.datatype)
        array = np.array(given.data, triton_to_np_dtype(given.datatype)).reshape(given.shape)
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


def outputs(module: Any, metadata: Any, binary: bool) -> list[Any]:
    return [
        module.InferRequestedOutput(output["name"], binary_data=binary)
        for output in metadata["outputs"]
    ]


def check(result: Any, metadata: Any, golden: Golden) -> None:
    """Compare the probabilities with those of the golden predictions."""
    (probabilities,) = (
        result.as_numpy(output["name"])
        for output in metadata["outputs"]
        if output["datatype"] == "FP32"
    )
    expected = [list(prediction["probabilities"].values()) for prediction in golden.predictions]
    np.testing.assert_allclose(probabilities, expected, atol=0.02)
