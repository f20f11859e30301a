"""Predictions for instances: the conversions of `service.predict` around the engine."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeVar

import numpy as np
from pydantic import BaseModel

from service.core.engine import Engine
from service.core.errors import InferenceFailed, InvalidTensors, Refused
from service.core.examples import Examples
from service.core.manifest import ModelInfo
from service.core.refusal import locate, search
from service.core.request_context import RequestContext
from service.core.resources import MadeTensors, ToTensors
from service.core.tensors import Tensors, TensorSpec, check_inputs, join, layout, split
from service.core.turns import Turns
from service.core.uploads import kinds_of_files

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT")
GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")

_MANY_INSTANCES: Final = 1000
"""As many are converted off the event loop."""


class Predictor(Generic[InstanceT, PredictionT]):
    """Turns instances into tensors, runs the model, and turns its outputs into predictions.

    ``to_tensors``: returns the tensors of all instances, a row for each; or a list with the tensors
    of each, whose shapes may differ. ``to_predictions``: is then called for each instance.
    ``to_tensors`` may return an awaitable of either: what awaits goes on beside other conversions.
    ``context``: that of the request it predicts for; without one, the service's own timeout applies
    to each call. ``turns``: for requests whose conversions take long. Instances that hold files are
    converted off the event loop, however few they are.
    """

    __slots__ = (
        "_context",
        "_conversions",
        "_engine",
        "_has_files",
        "_instance",
        "_to_predictions",
        "_to_tensors",
        "turns",
    )

    def __init__(
        self,
        engine: Engine,
        instance: type[InstanceT],
        to_tensors: ToTensors[InstanceT],
        to_predictions: Callable[[Tensors], Sequence[PredictionT]],
        context: RequestContext | None = None,
        turns: Turns | None = None,
        conversions: Turns | None = None,
    ) -> None:
        self._engine: Final = engine
        self._instance: Final = instance
        self._to_tensors: Final = to_tensors
        self._to_predictions: Final = to_predictions
        self._context: Final = context
        self.turns: Final = turns or Turns()
        self._conversions: Final = conversions or Turns()
        self._has_files: Final = bool(kinds_of_files(instance))

    def with_context(self, context: RequestContext | None) -> "Predictor[InstanceT, PredictionT]":
        """Return a predictor for one request."""
        return self._with(self._to_predictions, context)

    def _with(
        self,
        to_predictions: Callable[[Tensors], Sequence[MadeT]],
        context: RequestContext | None,
    ) -> "Predictor[InstanceT, MadeT]":
        return Predictor(
            self._engine,
            self._instance,
            self._to_tensors,
            to_predictions,
            context,
            self.turns,
            self._conversions,
        )

    @property
    def instance(self) -> type[InstanceT]:
        """The type of the instances."""
        return self._instance

    @property
    def model(self) -> ModelInfo:
        """The model that makes the predictions.

        Raises:
            NotReady: no model is loaded yet.
        """
        return self._engine.model

    async def predict(self, instances: Sequence[InstanceT]) -> list[PredictionT]:
        """Return one prediction for each instance, in their order.

        Raises:
            Refused: the conversions or the model cannot take an instance.
            ServiceError: what `Engine.infer` raises; InferenceFailed also if the conversions give
                another number of predictions.
        """
        context = self._context
        large = context is not None and context.large
        if self._engine.batched or len(instances) == 1:
            return await self._predict(instances, large=large or len(instances) >= _MANY_INSTANCES)
        self.turns.end(context)  # no conversion takes long
        predictions = []
        for index, instance in enumerate(instances):
            try:
                predictions += await self._predict([instance], large=False)
            except Refused as error:
                error.instance = index
                raise
        return predictions

    async def infer(self, instances: Sequence[InstanceT]) -> Tensors:
        """Return the model's outputs for instances, a row for each, without `to_predictions`.

        Raises:
            Refused, ServiceError: what `predict` raises.
        """
        return join(await self._with(_rows_of, self._context).predict(instances))

    async def _predict(self, instances: Sequence[InstanceT], *, large: bool) -> list[PredictionT]:
        """Predict for instances that the model gets together.

        ``large``: whether their conversions take long.
        """
        if large:
            async with self.turns.turn(self._context):  # that of the parser, if it still lasts
                tensors = await self._convert_in_thread(self._tensors, instances)
            self.turns.end(self._context)  # tensors take less memory than instances
        else:
            convert = self._convert_in_thread if self._has_files else self._convert
            tensors = await convert(self._tensors, instances)
        if not isinstance(tensors, dict) and isinstance(tensors, Awaitable):
            tensors = await self._in_time(tensors, instances)
        if not isinstance(tensors, dict):
            return await self._predict_each(
                _as_many("sets of tensors", tensors, len(instances)), large=large
            )
        try:
            outputs = await self._engine.infer(tensors, self._context)
        except Refused as error:
            if error.instance is None and len(instances) == 1:
                error.instance = 0
            raise
        predict = functools.partial(self._predictions, len(instances))
        predictions = await self._convert_answer(predict, outputs, large=large)
        return _as_many("predictions", predictions, len(instances))

    async def _predict_each(self, tensors: Sequence[Tensors], *, large: bool) -> list[PredictionT]:
        """Predict for instances that have their own tensors; those of one layout run together."""
        groups: dict[Hashable, list[int]] = {}
        for index, each in enumerate(tensors):
            groups.setdefault(layout(each), []).append(index)
        outputs: dict[int, Tensors] = {}
        for indexes in groups.values():
            made = await self._infer_group([tensors[index] for index in indexes], indexes)
            outputs.update(zip(indexes, made, strict=True))
        in_order = [outputs[index] for index in range(len(tensors))]
        return await self._convert_answer(self._one_each, in_order, large=large)

    async def _infer_group(
        self, tensors: Sequence[Tensors], instances: Sequence[int]
    ) -> list[Tensors]:
        """Run tensors of one layout together. ``instances``: the index of the instance of each."""
        alone = len(tensors) == 1
        rows = [] if alone else [len(next(iter(each.values()))) for each in tensors]
        try:
            outputs = await self._engine.infer(join(tensors), self._context)
        except Refused as error:
            if alone:
                error.instance = instances[0]
            elif error.instance is not None:
                error.instance = int(np.repeat(instances, rows)[error.instance])
            raise
        return [outputs] if alone else list(split(outputs, rows))

    def _one_each(self, outputs: Sequence[Tensors]) -> list[PredictionT]:
        predictions: list[PredictionT] = []
        for instance, each in enumerate(outputs):
            try:
                predictions += _as_many("predictions", self._to_predictions(each), 1)
            except Refused as error:
                error.instance = instance
                raise
        return predictions

    async def _convert_answer(
        self,
        conversion: Callable[[GivenT], list[PredictionT]],
        outputs: GivenT,
        *,
        large: bool,
    ) -> list[PredictionT]:
        if not large:
            return await self._convert(conversion, outputs)
        # The framework makes JSON of predictions at once, which belongs to the same turn.
        async with self.turns.turn(self._context, until_next_step=True):
            return await self._convert_in_thread(conversion, outputs)

    # No two conversions run at the same time, so that owners need no locks in theirs.

    async def _convert(self, conversion: Callable[[GivenT], MadeT], given: GivenT) -> MadeT:
        if not self._conversions.taken:
            return conversion(given)
        async with self._conversions.turn(self._context, at_once=self._has_files):
            return conversion(given)

    async def _convert_in_thread(
        self, conversion: Callable[[GivenT], MadeT], given: GivenT
    ) -> MadeT:
        async with self._conversions.turn(self._context, at_once=self._has_files):
            return await asyncio.to_thread(conversion, given)

    async def _in_time(
        self, tensors: Awaitable[MadeTensors], instances: Sequence[InstanceT]
    ) -> MadeTensors:
        """Await tensors as long as the request waits for its answer."""
        context = self._context or self._engine.own_context()
        try:
            async with context.in_time():
                return await self._located(tensors, instances)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise InferenceFailed from error  # what to_tensors waited for was cancelled

    async def _located(
        self, tensors: Awaitable[MadeTensors], instances: Sequence[InstanceT]
    ) -> MadeTensors:
        async def attempt(part: slice) -> None:
            made = self._to_tensors(instances[part])
            if isinstance(made, Awaitable):
                await made

        try:
            return await tensors
        except Refused as error:
            raise await _locate(error, len(instances), attempt) from None

    def _tensors(self, instances: Sequence[InstanceT]) -> MadeTensors | Awaitable[MadeTensors]:
        try:
            return self._to_tensors(instances)
        except Refused as error:
            count = len(instances)
            raise locate(error, count, lambda part: self._to_tensors(instances[part])) from None

    def _predictions(self, count: int, outputs: Tensors) -> list[PredictionT]:
        def convert(rows: slice) -> Sequence[PredictionT]:
            return self._to_predictions({name: array[rows] for name, array in outputs.items()})

        try:
            return list(self._to_predictions(outputs))
        except Refused as error:
            if any(array.shape[:1] != (count,) for array in outputs.values()):
                raise
            raise locate(error, count, convert) from None

    async def examples_for(self, inputs: Sequence[TensorSpec]) -> Examples | None:
        """Convert the examples of the schema, if it has any, to the inputs of the model.

        Raises:
            InvalidTensors: they are not the model's inputs.
        """
        given: list[Any] = self._instance.model_json_schema().get("examples", [])
        if not given:
            return None
        instances = [self._instance.model_validate_json(json.dumps(example)) for example in given]
        try:
            made = [
                await each if isinstance(each := self._tensors([instance]), Awaitable) else each
                for instance in instances
            ]
            tensors = [
                each if isinstance(each, dict) else _as_many("sets of tensors", each, 1)[0]
                for each in made
            ]
            for each in tensors:
                check_inputs(inputs, each)
            return _joined(tensors, "the examples of predict.py")
        except Refused as error:
            raise InvalidTensors(f"predict.py refuses an example of its schema: {error}") from None
        except InvalidTensors as error:
            raise InvalidTensors(
                f"predict.py and the model's manifest disagree: {error.detail} Change one of them, "
                "or set SERVICE_PREDICT_ENDPOINT=false to serve the model without /predict."
            ) from None


def _as_many(what: str, found: Sequence[MadeT], instances: int) -> list[MadeT]:
    """Return what a conversion gave for instances. ``what``: a word for it.

    Raises:
        InferenceFailed: it is more or less than one for each.
    """
    if len(found) != instances:
        raise InferenceFailed from ValueError(f"{instances} instances gave {len(found)} {what}")
    return list(found)


def _joined(instances: Sequence[Tensors], source: str) -> Examples:
    """Join the inputs of instances, as far as they have the shape of the first."""
    first = instances[0]
    alike = [tensors for tensors in instances if layout(tensors) == layout(first)]
    has_rows = all(array.ndim for array in first.values())
    return Examples(join(alike) if has_rows else first, first, source, given=True)


def _rows_of(tensors: Tensors) -> list[Tensors]:
    """Split tensors into one part for each row."""
    return list(split(tensors, [1] * len(next(iter(tensors.values())))))


async def _locate(
    refused: Refused, count: int, attempt: Callable[[slice], Awaitable[object]]
) -> Refused:
    """Do what `locate` does with attempts that are awaited."""
    parts = search(refused, count)
    outcome: Refused | None = None
    while True:
        try:
            part = parts.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        outcome = None
        try:
            await attempt(part)
        except Refused as error:
            outcome = error
