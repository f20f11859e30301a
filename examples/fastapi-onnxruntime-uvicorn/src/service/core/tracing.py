"""Spans of what happens to requests between their arrival and their answer.

What makes the spans is passed in: `service.ops.traces`, where an exporter is configured. Nothing
here is used where none is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from service.core.errors import InvalidTensors, Refused
from service.core.manifest import ModelInfo
from service.core.run import Run
from service.core.tensors import Tensors

Attributes = Mapping[str, str | int]


class Span(Protocol):
    """A span that is active in its thread until it ends."""

    def end(self, error: str = "") -> None:
        """End the span, in the thread that started it. ``error``: the kind of error, if any."""
        ...


class Tracer(Protocol):
    """Makes spans. Those of requests that no sampler chose are None."""

    def active(self) -> object | None:
        """Return the active span, None if there is none that is recorded."""
        ...

    def start(
        self, name: str, attributes: Attributes, requests: Sequence[object] = ()
    ) -> Span | None:
        """Start a span inside the active one, None if that is not recorded.

        ``requests``: spans that it serves; it is inside the first and linked to all.
        """
        ...

    def record(
        self,
        name: str,
        parent: object,
        since: float,
        until: float,
        link: Span | None = None,
        error: str = "",
    ) -> None:
        """Record a span that is over. ``since`` and ``until``: on ``time.monotonic``."""
        ...


class BatchTraces:
    """The spans of batches: ``queue`` for each request, ``batch``, and ``model`` for each call."""

    def __init__(self, tracer: Tracer, model: ModelInfo) -> None:
        self._tracer: Final = tracer
        self._model: Final = {
            "inference.model.name": model.name,
            "inference.model.version": model.version,
        }

    def active(self) -> object | None:
        """Return the span of the request that is being answered, None if it is not recorded."""
        return self._tracer.active()

    def start(self, requests: Iterable[object | None], rows: int) -> Span | None:
        """Start the span of a batch in the model's thread, None if none of its requests has one."""
        given = list(requests)
        recorded = [request for request in given if request is not None]
        if not recorded:
            return None
        size = {"inference.batch.rows": rows, "inference.batch.requests": len(given)}
        return self._tracer.start("batch", {**self._model, **size}, recorded)

    def waited(
        self, request: object, since: float, until: float, batch: Span | None, error: str = ""
    ) -> None:
        """Record how long a request waited for its batch; None: it left the queue without one."""
        self._tracer.record("queue", request, since, until, batch, error)

    def around(self, run: Run) -> Run:
        """Return a model's ``run`` with a span of each call."""

        def traced(batch: Tensors) -> Tensors:
            shape = next(iter(batch.values())).shape
            rows = {"inference.batch.rows": shape[0]} if shape else {}
            span = self._tracer.start("model", {**self._model, **rows})
            if span is None:
                return run(batch)
            try:
                outputs = run(batch)
            except (InvalidTensors, Refused):  # errors of the client
                span.end()
                raise
            except BaseException as error:
                span.end(kind_of(error))
                raise
            span.end()
            return outputs

        return traced


def kind_of(error: BaseException | type[BaseException]) -> str:
    """Return the name of an exception's class. Its text may hold values of a client."""
    kind = error if isinstance(error, type) else type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
