"""Serve the ten models by one tool, and compare each answer with that of the model's own library.

    make environment
    .venv/bin/uv venv ENVIRONMENT
    .venv/bin/uv pip install --python ENVIRONMENT --requirements \
        benchmarks/ten_models/requirements/bentoml.txt
    .venv/bin/python benchmarks/ten_models/check.py bentoml --python ENVIRONMENT/bin/python

For inferplate no other environment is needed. Prints the seconds from the artifact to the first
answer, by the commands that the tool documents, and with the first model what a service of the tool
has. Artifacts and services are made in a temporary folder. MLServer needs a Python before 3.13.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from count import MODELS, TEN, TITLES

from inferplate.matrix import Variant
from inferplate.render import render
from inferplate.running import free_port, wait_until
from inferplate.source import template_root
from inferplate.wire import HOST, JSON_LENGTH, Response, alike, ask, post_json
from inferplate.workbench import project_environment

READY_SECONDS: Final = 120
TOLERANCE: Final = 1e-4
FACTS_MODEL: Final = "pipeline"
LARGE_BODY: Final = 100 * 2**20
BOUNDARY: Final = "boundary"


@dataclass(frozen=True)
class Tool:
    """How a tool starts a service.

    ``ready`` and ``live``: its probes. ``schema``: its OpenAPI document. ``{port}``, ``{model}``
    and ``{python}`` are filled in, in the files of its users too where they have the port.
    """

    command: tuple[str, ...]
    ready: str
    live: str
    schema: str
    metrics: str = "/metrics"
    environment: Mapping[str, str] = field(default_factory=dict)


TOOLS: Final = {
    "inferplate": Tool(
        ("{python}", "-m", "service"),
        "/v2/health/ready",
        "/v2/health/live",
        "/openapi.json",
        environment={"SERVICE_PORT": "{port}", "PYTHONPATH": "src"},
    ),
    "fastapi": Tool(
        ("{python}", "-m", "uvicorn", "main:app", "--port", "{port}"),
        *("/ready", "/ready", "/openapi.json"),
    ),
    "bentoml": Tool(
        ("{python}", "-m", "bentoml", "serve", "--host", HOST, "--port", "{port}"),
        *("/readyz", "/livez", "/docs.json"),
        environment={"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": ".bentoml"},
    ),
    "litserve": Tool(
        ("{python}", "server.py"),
        *("/health", "/health", "/openapi.json"),
    ),
    "mlserver": Tool(
        ("{python}", "-m", "mlserver.cli.main", "start", "."),
        *("/v2/models/{model}/ready", "/v2/health/live", "/v2/models/{model}/docs/dataplane.json"),
        environment={
            "MLSERVER_HOST": HOST,
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "0",
            "MLSERVER_METRICS_PORT": "{metrics}",
        },
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; all if none is named")
    parser.add_argument("--python", default=sys.executable, help="of the tool's environment")
    options = parser.parse_args()
    wrong = []
    for model in options.models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            seconds, found, facts = try_model(options.tool, model, options.python, Path(folder))
        print(f"{model:<12}{seconds:6.1f} s  {found}", flush=True)
        for fact, seen in facts.items():
            print(f"  {fact}: {seen}")
        if found != "as the library":
            wrong.append(model)
    print(f"{TITLES[options.tool]}: {len(wrong)} wrong {' '.join(wrong)}")
    return 1 if wrong else 0


def try_model(
    tool: str, model: str, python: str, folder: Path
) -> tuple[float, str, dict[str, object]]:
    """Return the seconds to the first answer, what it is, and what the service has."""
    made = folder / "made"
    made.mkdir()
    make = [sys.executable, str(TEN / model / "make.py")]
    _run(make, made, {})
    expected = json.loads((made / "expected.json").read_bytes())
    service = folder / "service"
    if tool == "inferplate":
        variant = Variant("fastapi", MODELS[model]["runtime"], "uvicorn")
        render(template_root(), service, variant.answers())
    shutil.copytree(made, service, dirs_exist_ok=True)
    own = service / "src/service" if tool == "inferplate" else service
    for path in (TEN / model / tool).glob("*"):
        shutil.copy(path, own)
    port, facts = free_port(), {}
    start = time.monotonic()
    if tool == "inferplate":
        _run(describe(python, model), service, PATHS)
    with running(tool, model, python, service, port):
        try:
            found = answers(tool, model, port, expected)
            seconds = time.monotonic() - start
            if model == FACTS_MODEL:
                facts = look(tool, port)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            return time.monotonic() - start, repr(error), {}
    right = expected["tensors"]["output"] if tool == "mlserver" else expected["predictions"]
    return seconds, "as the library" if same(found, right) else f"{found} for {right}", facts


PATHS: Final = {"PYTHONPATH": "src"}


def describe(python: str, model: str) -> list[str]:
    """Return the command by which a user of inferplate describes an artifact."""
    described = MODELS[model]
    named = [described["artifact"], "--name", "own", "--version", "1"]
    return [python, "-m", "service", "manifest", *named, *described["options"]]


def _run(command: Sequence[str], folder: Path, settings: Mapping[str, str]) -> None:
    subprocess.run(  # noqa: S603 - our own interpreter
        command, cwd=folder, env=environment(settings), check=True, capture_output=True
    )


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: that of this one, without its settings of services."""
    return project_environment({"PYTHONPATH": "", "KERAS_BACKEND": "torch", **settings})


@contextmanager
def running(tool: str, model: str, python: str, service: Path, port: int) -> Iterator[None]:
    """Start a service and wait until it is ready; leaving the context leaves no process behind."""
    described = TOOLS[tool]
    places = {
        "{port}": str(port),
        "{metrics}": str(port + 1),
        "{model}": model,
        "{python}": python,
    }

    def filled(text: str) -> str:
        for place, value in places.items():
            text = text.replace(place, value)
        return text

    for path in service.glob("server.py"):
        text = path.read_text(encoding="utf-8").replace("port=8000", f"port={port}")
        path.write_text(text, encoding="utf-8")
    log = service / "server.log"
    settings = {name: filled(value) for name, value in described.environment.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the tools' own commands
            [filled(part) for part in described.command],
            cwd=service,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_ready() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return ask(port, "GET", filled(described.ready)).status == 200
        return False

    try:
        started = wait_until(lambda: process.poll() is not None or is_ready(), READY_SECONDS)
        if not started or process.poll() is not None:
            raise SystemExit(f"{tool} does not serve {model}:\n{log.read_text()[-4000:]}")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(tool: str, model: str, port: int, expected: Mapping[str, Any]) -> Any:
    """Ask as users of the tool would, and return the predictions.

    Raises:
        ValueError: another status than 200.
    """
    instances = expected["instances"]
    if tool == "mlserver":
        inputs = [v2(tensor) for tensor in expected["tensors"]["inputs"]]
        answer = post_json(port, f"/v2/models/{model}/infer", {"inputs": inputs})
        output = checked(answer)["outputs"][0]
        return output["data"]
    if tool == "litserve":
        return [checked(post_json(port, "/predict", instance)) for instance in instances]
    if "image" in instances[0] and tool in ("fastapi", "bentoml"):
        body, headers = form([b64decode(instance["image"]) for instance in instances])
        answer = ask(port, "POST", "/predict", body, headers)
    else:
        answer = post_json(port, "/predict", {"instances": instances})
    found = checked(answer)
    return found if tool == "bentoml" else found["predictions"]


def v2(tensor: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input of the Open Inference Protocol."""
    data = tensor["data"]
    shape = [len(data), len(data[0])] if isinstance(data[0], list) else [len(data), 1]
    parameters = {"parameters": {"content_type": tensor["type"]}} if "type" in tensor else {}
    named = {"name": tensor["name"], "datatype": tensor["datatype"]}
    return {**named, "shape": shape, "data": data, **parameters}


def form(files: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a form with files in its field ``image``, and its headers."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    body = b"".join(b"%b%b\r\n" % (head, each) for each in files) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def checked(answer: Response) -> Any:
    if answer.status != 200:
        raise ValueError(f"{answer.status} {answer.body[:500]!r}")
    return answer.json()


def same(found: Any, right: Any) -> bool:
    """Compare predictions: those parts that the library gives; tensors by their values alone."""
    if isinstance(right[0], dict):
        pairs = zip(found, right, strict=True)
        return all(alike({key: one[key] for key in of}, of, TOLERANCE) for one, of in pairs)
    return alike(flat(found), flat(right), TOLERANCE)


def flat(values: Any) -> list[Any]:
    """Return the elements of nested lists."""
    if isinstance(values, list):
        return [element for each in values for element in flat(each)]
    return [values]


def look(tool: str, port: int) -> dict[str, object]:
    """Return what a service has, each as it answers."""
    described = TOOLS[tool]
    good = {"age": 30.0, "fare": 10.0, "city": "Rome"}
    path = f"/v2/models/{FACTS_MODEL}/infer" if tool == "mlserver" else "/predict"

    def get(path: str, at: int = port) -> Response:
        return ask(at, "GET", path.replace("{model}", FACTS_MODEL))

    def predict(instance: Mapping[str, object]) -> int:
        document: object = {"instances": [instance]}
        if tool == "litserve":
            document = instance
        if tool == "mlserver":
            types = {"age": "FP64", "fare": "FP64", "city": "BYTES"}
            tensors = [
                {"name": name, "datatype": types[name], "data": [value]}
                for name, value in instance.items()
            ]
            document = {"inputs": [v2(tensor) for tensor in tensors]}
        return post_json(port, path, document).status

    metrics = get(described.metrics, port + 1 if tool == "mlserver" else port)
    schema = get(described.schema)
    return {
        "a good instance": predict(good),
        "an unknown category": predict({**good, "city": "Atlantis"}),
        "a number in a text": predict({**good, "age": "old"}),
        "live, ready": (get(described.live).status, get(described.ready).status),
        "metrics in Prometheus' format": metrics.status == 200 and b"# TYPE" in metrics.body,
        "OpenAPI names the fields": schema.status == 200 and b'"fare"' in schema.body,
        "OpenAPI lists the categories": schema.status == 200 and b'"Oslo"' in schema.body,
        "a body of 100 MiB": large_body(port, path),
        "binary tensors": binary(port, tool),
    }


def large_body(port: int, path: str) -> object:
    """Return the status of the answer to 100 MiB of spaces, or how the connection ended."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(LARGE_BODY))
        connection.endheaders()
        with suppress(OSError):  # the service may close while we send
            connection.send(b" " * LARGE_BODY)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def binary(port: int, tool: str) -> int:
    """Ask by the Open Inference Protocol with a binary tensor, and return the status."""
    sizes = {"parameters": {"binary_data_size": 8}}
    numbers = [
        {"name": name, "datatype": "FP64", "shape": [1], **sizes} for name in ("age", "fare")
    ]
    city = {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Rome"]}
    header = json.dumps({"inputs": [*numbers, city]}).encode()
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(header))}
    name = "own" if tool == "inferplate" else FACTS_MODEL
    body = header + bytes(16)
    return ask(port, "POST", f"/v2/models/{name}/infer", body, headers).status


if __name__ == "__main__":
    sys.exit(main())
