"""Why a request gets no prediction.

The text of an error is meant for the client: it never holds a traceback, a path or a value of the
model. `service.web.errors` decides how each error is answered.
"""

from typing import ClassVar


class ServiceError(Exception):
    """A request that is not answered with a prediction.

    ``reason``: the label under which the metric of rejected requests counts it, None to leave it
    out.
    """

    reason: ClassVar[str | None] = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidTensors(ServiceError):
    """Tensors that contradict themselves, the model's signature, or what the model can take.

    A runtime may raise it while it runs a batch; only the requests that cause it fail.
    """

    reason = "malformed"


class Refused(ServiceError):
    """An instance with a value that your code cannot take, which may raise it.

    ``detail``: what is wrong, for the client. ``field``: which field of the instance, or the path
    to it, such as ``items.0.price``. ``instance``: its index among the instances, or the rows, that
    the function was given; without it, the service finds the instance by halving them.
    """

    reason = "invalid"

    def __init__(self, detail: str, *, field: str = "", instance: int | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.instance = instance

    def __str__(self) -> str:
        place = [] if self.instance is None else [f"row {self.instance}"]
        place += [self.field] if self.field else []
        return f"{', '.join(place)}: {self.detail}" if place else self.detail


class TooLarge(ServiceError):
    """A request that exceeds a limit, and would again however often it is repeated."""

    reason = "too_large"


class Unavailable(ServiceError):
    """A request that cannot be taken now.

    ``retry_after``: seconds until another attempt has a fair chance.
    """

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class NotReady(Unavailable):
    reason = "not_ready"

    def __init__(self) -> None:
        super().__init__("The model is not ready.", retry_after=1)


class QueueFull(Unavailable):
    reason = "queue_full"

    def __init__(self, retry_after: int) -> None:
        super().__init__("The queue is full, or too long for the deadline.", retry_after)


class DeadlineExceeded(ServiceError):
    reason = "deadline"

    def __init__(self) -> None:
        super().__init__("The deadline passed before the prediction was made.")


class RequestCancelled(ServiceError):
    """The client closed the connection, so nobody will read the answer."""

    reason = "disconnected"

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class InferenceFailed(ServiceError):
    """The model raised an exception, which is the cause of this one."""

    reason = "failed"

    def __init__(self) -> None:
        super().__init__("The model could not process this request.")
