"""Traces by OpenTelemetry, configured by its standard variables.

Traces are on if ``OTEL_TRACES_EXPORTER`` names an exporter or ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``) a collector. OpenTelemetry is imported only then. Its SDK
reads its other variables: the sampler, the propagators, the limits of spans, the batches.
"""

import importlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Final

from service.ops.process import CannotStart
from service.ops.trace_context import traceparent

Headers = Iterable[tuple[bytes, bytes]]

log = logging.getLogger("service.traces")

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP: Final = {
    "http/protobuf": ("otlp_proto_http", "opentelemetry-exporter-otlp-proto-http"),
    "grpc": ("otlp_proto_grpc", "opentelemetry-exporter-otlp-proto-grpc"),
}
"""By protocol: the entry point of the exporter, and the package that has it."""
_SDK: Final = "opentelemetry-sdk"
_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.27.0"
"""The version of the conventions in which attributes are named."""
_FLUSH: Final = 2.0
"""Seconds at the end of the process in which the last spans are sent."""
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s\[\]@/?#:]+)(:(?P<port>[0-9]{1,5}))?")
_NOISY: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)
"""They log each failure to send."""
_OF_CLIENTS: Final = ("opentelemetry.baggage", "opentelemetry.trace")
"""They warn of each header of a client that is not valid."""
_LONGEST_REASON: Final = 300
_CLIENT_CLOSED: Final = 499


def exporters() -> list[str]:
    """Return the exporters that the environment asks for; without any, traces are off.

    Raises:
        CannotStart: the variables contradict each other.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    given = os.environ.get(_EXPORTER, "").strip().lower()
    if not given:
        return ["otlp"] if any(os.environ.get(name) for name in _ENDPOINTS) else []
    names = [name.strip() for name in given.split(",") if name.strip()]
    if "none" not in names:
        return names
    if names != ["none"]:
        raise CannotStart(f"{_EXPORTER} is '{given}': 'none' goes with no other")
    return []


def check() -> None:
    """Check, without starting anything, that traces can be made if they are on.

    Raises:
        CannotStart: a package is missing, or a variable has a value that means nothing.
    """
    names = exporters()
    if not names:
        return
    for name in names:
        _entry_point(name)
    if "otlp" in names:
        _check_endpoint()
    _check_sampler()


def start(service: str, version: str) -> "Tracer | None":
    """Start to export traces from this process, if they are on.

    ``service`` and ``version``: what they are exported as, unless the environment says otherwise.
    A tracer provider that the application has already is used as it is.

    Raises:
        CannotStart: what `check` raises, or a propagator that does not exist.
    """
    check()
    names = exporters()
    if not names:
        return None
    for name in _OF_CLIENTS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        importlib.import_module("opentelemetry.propagate")
    except ValueError as error:
        raise CannotStart(f"OTEL_PROPAGATORS: {error}") from None
    from opentelemetry import trace

    provider: Any = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = _provider(service, version)
        provider.add_span_processor(_sent)
        trace.set_tracer_provider(provider)
        _sent.provider = provider
    if provider is not _sent.provider:
        log.info("traces are those of the application's own tracer provider")
        return Tracer(provider, version)
    _sent.start(names)
    return Tracer(provider, version)


class Tracer:
    """Makes the spans of this process. `service.core.tracing` says what each is for."""

    def __init__(self, provider: Any, version: str) -> None:
        from opentelemetry import context, propagate, trace

        self._provider: Final = provider
        self._tracer: Final[Any] = provider.get_tracer("service", version, schema_url=_SCHEMA)
        self._trace: Final[Any] = trace
        self._context: Final[Any] = context
        self._propagator: Final[Any] = propagate.get_global_textmap()
        self._fields: Final = {field.encode("ascii") for field in self._propagator.fields}
        self._failed: Final = trace.Status(trace.StatusCode.ERROR)

    def request(
        self, method: str, path: str, scheme: str, http_version: str, headers: Headers
    ) -> "RequestSpan":
        """Start the span of a request, inside that of its client, and make it active.

        ``method``: ``OTHER`` for one that HTTP does not know.
        """
        parent = self._propagator.extract(headers, self._context.Context(), _Getter())
        known = method != "OTHER"
        attributes = {
            "http.request.method": method if known else "_OTHER",
            "network.protocol.version": http_version,
            "url.path": path,
            "url.scheme": scheme,
            **_server(headers),
        }
        kind = self._trace.SpanKind.SERVER
        name = method if known else "HTTP"
        span = self._tracer.start_span(name, parent, kind, attributes)
        token = self._context.attach(self._trace.set_span_in_context(span, parent))
        return RequestSpan(self, span, token, name)

    def carried(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Let headers name the active span as their parent, for a framework that reads them."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            return list(headers)
        made: dict[str, str] = {}
        self._propagator.inject(made)
        kept = [header for header in headers if header[0] not in self._fields]
        return kept + [(name.lower().encode(), value.encode()) for name, value in made.items()]

    def active(self) -> object | None:
        """Return the active span, None if there is none that is recorded."""
        span = self._trace.get_current_span()
        return span if span.is_recording() else None

    def start(
        self, name: str, attributes: Mapping[str, str | int], requests: Sequence[Any] = ()
    ) -> "ActiveSpan | None":
        """Start a span and make it active in this thread until it ends."""
        if not requests and self.active() is None:
            return None
        parent = self._trace.set_span_in_context(requests[0]) if requests else None
        links = [self._trace.Link(span.get_span_context()) for span in requests]
        span = self._tracer.start_span(name, parent, attributes=attributes, links=links)
        token = self._context.attach(self._trace.set_span_in_context(span))
        return ActiveSpan(self, span, token)

    def record(
        self,
        name: str,
        parent: Any,
        since: float,
        until: float,
        link: Any = None,
        error: str = "",
    ) -> None:
        """Record a span that is over. ``since`` and ``until``: on ``time.monotonic``."""
        offset = time.time_ns() - int(time.monotonic() * 1e9)
        span = self._tracer.start_span(
            name,
            self._trace.set_span_in_context(parent),
            links=[self._trace.Link(link.span.get_span_context())] if link else [],
            start_time=offset + int(since * 1e9),
        )
        if error:
            self.fail(span, error)
        span.end(offset + int(until * 1e9))

    def fail(self, span: Any, kind: str) -> None:
        """Let a span say that it failed, by the kind of the error alone: texts may hold values."""
        span.set_attribute("error.type", kind)
        span.set_status(self._failed)

    def leave(self, token: object) -> None:
        """Make the span active again that was so before."""
        self._context.detach(token)

    def stop(self) -> None:
        """Send what is left, for two seconds at most. A collector that is gone loses it."""
        end = _sent.stop if self._provider is _sent.provider else self._flush_foreign
        thread = threading.Thread(target=end, name="traces", daemon=True)
        thread.start()
        thread.join(_FLUSH)
        if thread.is_alive():
            log.warning("the last spans could not be sent in %g s", _FLUSH)

    def _flush_foreign(self) -> None:
        if flush := getattr(self._provider, "force_flush", None):
            flush(int(_FLUSH * 1000))


class ActiveSpan:
    """A span that is active in the thread that started it."""

    __slots__ = ("_token", "_tracer", "span")

    def __init__(self, tracer: Tracer, span: Any, token: object) -> None:
        self._tracer: Final = tracer
        self.span: Final = span
        self._token: Final = token

    def end(self, error: str = "") -> None:
        """End the span. ``error``: the kind of error, if any."""
        if error:
            self._tracer.fail(self.span, error)
        self.span.end()
        self._tracer.leave(self._token)


class RequestSpan:
    """The span of a request, which is active while the request is answered."""

    __slots__ = ("_method", "_span", "_token", "_tracer")

    def __init__(self, tracer: Tracer, span: Any, token: object, method: str) -> None:
        self._tracer: Final = tracer
        self._span: Final = span
        self._token: Final = token
        self._method: Final = method

    @property
    def trace_id(self) -> str:
        """The id of the trace to which the request belongs."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def end(self, route: str, status: int, ago: float) -> None:
        """End the span. ``route``: empty if there is none. ``status``: zero without a response.

        ``ago``: for how many seconds the response has been complete.
        """
        span = self._span
        if span.is_recording():
            if route:
                span.update_name(f"{self._method} {route}")
                span.set_attribute("http.route", route)
            if status == _CLIENT_CLOSED:
                span.set_attribute("error.type", "client_disconnected")
            elif not status:
                self._tracer.fail(span, "no_response")
            else:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    self._tracer.fail(span, str(status))
            span.end(time.time_ns() - int(ago * 1e9))
        self._tracer.leave(self._token)


class _Getter:
    """Reads the headers of a request for OpenTelemetry's propagators."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """Return the values of a header, None if it is missing or, as a parent, not valid."""
        wanted = key.lower().encode("ascii")
        if wanted == b"traceparent":
            parent = traceparent(carrier)
            return [parent.decode("ascii")] if parent else None
        values = [value.decode("latin-1") for name, value in carrier if name == wanted]
        if wanted == b"baggage" and values:
            return [",".join(values)]  # its propagator reads only the first
        return values or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


class _Sent:
    """What the provider of this process gives its spans to. It can be stopped and started again.

    A process can have one provider only, but a service may be started in it more than once.
    """

    def __init__(self) -> None:
        self.provider: Any = None
        self._processors: list[Any] = []

    def start(self, names: Iterable[str]) -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporters: list[Any] = [_Watched(_entry_point(name).load()()) for name in names]
        self._processors = [BatchSpanProcessor(exporter) for exporter in exporters]

    def stop(self) -> None:
        processors, self._processors = self._processors, []
        for processor in processors:
            processor.shutdown()

    # What a span processor has.

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        pass

    def _on_ending(self, span: Any) -> None:
        pass

    def on_end(self, span: Any) -> None:
        for processor in self._processors:
            processor.on_end(span)

    def shutdown(self) -> None:
        self.stop()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return all(processor.force_flush(timeout_millis) for processor in self._processors)


_sent: Final[Any] = _Sent()


class _Watched(logging.Filter):
    """An exporter that logs when sending begins to fail and when it works again, not each time."""

    def __init__(self, exporter: Any) -> None:
        super().__init__()
        self._exporter: Final = exporter
        self._failing = False
        self._reason = ""
        for name in _NOISY:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the first reason for a failure to send, which is logged if it is one."""
        if record.name == _NOISY[-1]:
            return not self._failing
        self._reason = self._reason or record.getMessage()
        return False

    def export(self, spans: Sequence[Any]) -> Any:
        self._reason = ""
        result = self._exporter.export(spans)
        failed = result.name != "SUCCESS"
        if failed and not self._failing:
            log.warning("traces are lost, they cannot be sent: %s", self._reason[:_LONGEST_REASON])
        elif self._failing and not failed:
            log.info("traces can be sent again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        for name in _NOISY:
            logging.getLogger(name).removeFilter(self)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed


def _provider(service: str, version: str) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create()
    given = resource.attributes
    own = {"service.version": version, "service.name": service}
    if not str(given.get("service.name", "")).startswith("unknown_service"):
        del own["service.name"]
    if "service.version" in given:
        del own["service.version"]
    return TracerProvider(resource=resource.merge(Resource(own)), shutdown_on_exit=False)


def _entry_point(name: str) -> metadata.EntryPoint:
    """Return where the class of an exporter is.

    Raises:
        CannotStart: the exporter is unknown, or its package is not installed.
    """
    entry, packages = name, [_SDK]
    if name == "otlp":
        variable, protocol = _protocol()
        if protocol not in _OTLP:
            raise CannotStart(f"{variable} is '{protocol}', it may be {' or '.join(_OTLP)}")
        entry, package = _OTLP[protocol]
        packages.append(package)
    found = metadata.entry_points(group="opentelemetry_traces_exporter", name=entry)
    has_sdk = _is_installed("opentelemetry.sdk.trace")
    if has_sdk and found:
        return next(iter(found))
    if has_sdk and name not in {"otlp", "console"}:
        raise CannotStart(
            f"{_EXPORTER} names '{name}', and no exporter of that name is installed:"
            " there are otlp, console and none"
        )
    install = " ".join(f"'{package}'" for package in packages)
    raise CannotStart(
        f"the environment asks for traces by '{name}', which needs: pip install {install}"
    )


def _protocol() -> tuple[str, str]:
    """Return the protocol of OTLP, and the variable that says so."""
    for variable in _PROTOCOLS:
        if given := os.environ.get(variable, "").strip():
            return variable, given
    return _PROTOCOLS[-1], "http/protobuf"


def _check_endpoint() -> None:
    for variable in _ENDPOINTS:
        given = os.environ.get(variable, "").strip()
        if not given:
            continue
        if _protocol()[1] != "grpc" and not given.startswith(("http://", "https://")):
            raise CannotStart(
                f"{variable} is '{given}', it must be a URL such as http://collector:4318"
            )
        return


def _check_sampler() -> None:
    """Check the sampler, instead of which the SDK would record every request."""
    given = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not given:
        return
    known = [*_SAMPLERS, *(f"parentbased_{name}" for name in _SAMPLERS)]
    if given not in known:
        raise CannotStart(f"OTEL_TRACES_SAMPLER is '{given}', it may be {', '.join(known)}")
    ratio = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not (given.endswith("traceidratio") and ratio):
        return
    try:
        is_ratio = 0 <= float(ratio) <= 1
    except ValueError:
        is_ratio = False
    if not is_ratio:
        raise CannotStart(f"OTEL_TRACES_SAMPLER_ARG is '{ratio}', it must be from 0 to 1")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _server(headers: Headers) -> dict[str, str | int]:
    """Return the host that a request asks, as attributes."""
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    found = _HOST.fullmatch(host)
    if not found:
        return {}
    port = {"server.port": int(found["port"])} if found["port"] else {}
    return {"server.address": found["name"].strip("[]"), **port}
