"""What `to_tensors` uses besides the instances, such as a database: open while the service runs."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

from service.core.errors import NotReady
from service.core.tensors import Tensors
from service.ops.process import CannotStart

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

InstanceT = TypeVar("InstanceT")

MadeTensors = Tensors | Sequence[Tensors]
"""The tensors of all instances, or a list with those of each."""
ToTensors = Callable[[Sequence[InstanceT]], MadeTensors | Awaitable[MadeTensors]]


class Resources:
    """The owner's resources, which one task opens and closes.

    ``make``: returns their context manager, None if there are none. If it needs an argument, it
    gets ``model_dir``. ``on_failure``: called with the reason and its exception if they end by
    themselves, as those do whose task group fails. ``model_dir``: the folder of the model.
    """

    def __init__(
        self,
        make: Callable[..., AbstractAsyncContextManager[Any]] | None,
        on_failure: Callable[[str, BaseException | None], object] = lambda reason, error: None,
        model_dir: Path = Path("models"),
    ) -> None:
        if make is not None and _needs_argument(make):
            make = functools.partial(make, model_dir)
        self._make: Final = make
        self._on_failure: Final = on_failure
        self._opened: asyncio.Future[Any] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def bind(
        self,
        to_tensors: ToTensors[InstanceT]
        | Callable[[Sequence[InstanceT], Any], MadeTensors | Awaitable[MadeTensors]],
    ) -> ToTensors[InstanceT]:
        """Return `to_tensors` as a function of the instances alone.

        It raises NotReady while the resources are closed, and once they have ended.
        """
        if self._make is None:
            return to_tensors  # type: ignore[return-value]  # it takes no second argument
        return lambda instances: to_tensors(instances, self._value)  # type: ignore[call-arg]

    @property
    def _value(self) -> Any:
        opened = self._opened
        if opened is None or not opened.done():
            raise NotReady
        return opened.result()

    async def open(self) -> None:
        """Open them.

        Raises:
            CannotStart: the owner's code raises an exception.
        """
        if self._make is None:
            return
        self._closing.clear()
        self._opened = opened = asyncio.get_running_loop().create_future()
        self._task = task = asyncio.create_task(self._hold(self._make, opened))
        task.add_done_callback(self._ended)
        await asyncio.wait([opened, task], return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            self._task = None
            error, reason = _outcome(task)
            raise CannotStart(f"the resources of predict.py cannot be opened: {reason}") from error

    async def close(self) -> None:
        """Close them; or stop opening them.

        Raises:
            Exception: what the owner's code raises.
        """
        task, self._task = self._task, None
        opened, self._opened = self._opened, None
        if task is None or opened is None:
            return
        if opened.done():
            self._closing.set()
        else:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._opened is None or not self._opened.done():  # it was closed, or is not open yet
            return
        self._task = self._opened = None
        error, reason = _outcome(task)
        self._on_failure(f"the resources of predict.py ended: {reason}", error)

    async def _hold(
        self,
        make: Callable[[], AbstractAsyncContextManager[Any]],
        opened: "asyncio.Future[Any]",
    ) -> None:
        """Open and close them in one task, as those that use task groups or timeouts need."""
        async with make() as value:
            opened.set_result(value)
            await self._closing.wait()


def _needs_argument(make: Callable[..., object]) -> bool:
    """Return whether a function cannot be called without an argument."""
    parameters = inspect.signature(make).parameters.values()
    return any(each.default is each.empty and each.kind in _POSITIONAL for each in parameters)


def _outcome(task: asyncio.Task[None]) -> tuple[BaseException | None, str]:
    """Return the exception with which a task ended, if it did, and how it ended in words."""
    if task.cancelled():
        return None, "they were cancelled"
    error = cause = task.exception()
    if cause is None:
        return None, "they returned"
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        (cause,) = cause.exceptions
    return error, f"{type(cause).__name__}: {cause}"
