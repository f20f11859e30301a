"""The variables that turn traces on, and what a service does without them."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from service.ops import traces
from service.ops.process import CannotStart


def test_traces_are_off_and_not_imported_without_an_exporter() -> None:
    code = (
        "import sys; from service.ops import traces; assert traces.start('service', '1') is None;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environment = {name: text for name, text in os.environ.items() if "OTEL" not in name}
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**environment, "PYTHONPATH": path}, timeout=60)  # noqa: S603
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": " Console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "false"}, ["otlp"]),
    ],
)
def test_the_standard_variables_turn_traces_on(
    variables: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert traces.exporters() == expected


HTTP = "'opentelemetry-sdk' 'opentelemetry-exporter-otlp-proto-http'"


@pytest.mark.parametrize(
    ("variables", "has_sdk", "installed", "said"),
    [
        ({}, False, (), f"needs: pip install {HTTP}"),
        ({}, True, (), f"needs: pip install {HTTP}"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            True,
            ("otlp_proto_http",),
            "needs: pip install 'opentelemetry-sdk' 'opentelemetry-exporter-otlp-proto-grpc'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            True,
            ("otlp_proto_http",),
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json', it may be http/protobuf or grpc",
        ),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, True, (), "no exporter of that name is installed"),
        ({"OTEL_TRACES_EXPORTER": "otlp,none"}, True, (), "'none' goes with no other"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            True,
            ("otlp_proto_http",),
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'collector:4318', it must be a URL",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "ratio"},
            True,
            ("otlp_proto_http",),
            "OTEL_TRACES_SAMPLER is 'ratio', it may be always_on, ",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1%"},
            True,
            ("otlp_proto_http",),
            "OTEL_TRACES_SAMPLER_ARG is '1%', it must be from 0 to 1",
        ),
    ],
)
def test_what_cannot_work_is_said_before_the_start(
    variables: dict[str, str],
    has_sdk: bool,
    installed: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in ({"OTEL_TRACES_EXPORTER": "otlp"} | variables).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(traces, "_is_installed", lambda module: has_sdk)
    metadata = SimpleNamespace(
        entry_points=lambda *, group, name: [name] if name in installed else []
    )
    monkeypatch.setattr(traces, "metadata", metadata)
    with pytest.raises(CannotStart) as caught:
        traces.check()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
