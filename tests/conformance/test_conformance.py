"""Schemathesis finds nothing: what the OpenAPI document says of requests and answers is so."""

import os
import time
from pathlib import Path

import pytest
import schemathesis
from managed.importing import import_with_stand_ins
from managed.support import Doubler, FakeRuntime, write_model
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from service.ops.settings import Settings

EXAMPLES, REQUESTS = (int(os.environ[name]) for name in ("EXAMPLES", "REQUESTS"))
EXPECTED = ["2xx", "3xx", "401", "403", "404", "409", "429", "5xx"]
"""What the check of valid requests expects by default."""
CONFIG = {
    "seed": 1,
    "continue-on-failure": True,
    "generation": {"max-examples": EXAMPLES, "database": "none"},
    # Request-Timeout may ask for less time than there is.
    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]}},
    "operations": [
        # These fail always, for other tests.
        {"include-path-regex": "^/own/(defect|suspicious)$", "enabled": False},
        {  # pydantic takes true for 1 unless it is strict, and then refuses 1.0
            "include-path-regex": "^/own/orders$",
            "checks": {"negative_data_rejection": {"enabled": False}},
        },
        {  # a JSON schema cannot say that names, datatype, shape and data fit a model
            "include-path-regex": "/infer$",
            "checks": {"positive_data_acceptance": {"expected-statuses": [*EXPECTED, "400"]}},
        },
    ],
}


def test_requests_of_the_document(
    tmp_path: Path, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = import_with_stand_ins(Path(__file__).parent)
    shell.put_into_place(monkeypatch)
    model = Doubler(poison=float("nan"))
    settings = Settings(model_dir=write_model(tmp_path / "doubler", model))
    app = shell.main.create_app(settings, FakeRuntime(model))
    config = SchemathesisConfig.from_dict(CONFIG)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    deadline = time.monotonic() + 60
    while not app.engine.ready:
        assert not failures
        assert time.monotonic() < deadline
        time.sleep(0.01)
    requests = 0
    found: list[str] = []
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(repr(event))
        if not isinstance(event, events.ScenarioFinished):
            continue
        requests += len(event.recorder.interactions)
        for case, checks in event.recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    asked = event.recorder.interactions[case].request
                    what = f"{check.name}: {check.failure_info.failure}"
                    found.append(
                        f"{what}\n{asked.method} {asked.uri} {asked.headers} {asked.body!r}"
                    )
    print(requests, "requests")
    assert not found, "\n\n".join(found[:5])
    assert not failures
    assert requests >= REQUESTS
