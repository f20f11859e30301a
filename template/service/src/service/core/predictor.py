"""Predictions for instances: the conversions of `service.predict` around the engine."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from service.core.engine import Engine
from service.core.errors import InferenceFailed, InvalidTensors
from service.core.examples import Examples, of_instances
from service.core.manifest import ModelInfo
from service.core.request_context import RequestContext
from service.core.tensors import Tensors, TensorSpec, check_inputs
from service.core.turns import Turns

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT", bound=BaseModel)
GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")

_MANY_INSTANCES: Final = 1000
"""As many are converted off the event loop."""


class Predictor(Generic[InstanceT, PredictionT]):
    """Turns instances into tensors, runs the model, and turns its outputs into predictions.

    ``context``: that of the request it predicts for; without one, the service's own timeout applies
    to each call. ``turns``: for requests whose conversions take long.
    """

    __slots__ = (
        "_context",
        "_conversions",
        "_engine",
        "_instance",
        "_to_predictions",
        "_to_tensors",
        "turns",
    )

    def __init__(
        self,
        engine: Engine,
        instance: type[InstanceT],
        to_tensors: Callable[[Sequence[InstanceT]], Tensors],
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

    def with_context(self, context: RequestContext | None) -> "Predictor[InstanceT, PredictionT]":
        """Return a predictor for one request."""
        return Predictor(
            self._engine,
            self._instance,
            self._to_tensors,
            self._to_predictions,
            context,
            self.turns,
            self._conversions,
        )

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
            ServiceError: what `Engine.infer` raises; InferenceFailed also if the conversions give
                another number of predictions.
        """
        if self._engine.batched:
            return await self._predict(instances)
        return [
            prediction for instance in instances for prediction in await self._predict([instance])
        ]

    async def _predict(self, instances: Sequence[InstanceT]) -> list[PredictionT]:
        context = self._context
        if len(instances) < _MANY_INSTANCES and (context is None or not context.large):
            tensors = await self._convert(self._to_tensors, instances)
            outputs = await self._engine.infer(tensors, context)
            predictions = list(await self._convert(self._to_predictions, outputs))
        else:
            if context is not None and context.end_turn is not None:
                context.end_turn()
            async with self.turns.turn(context):
                tensors = await self._convert_in_thread(self._to_tensors, instances)
            outputs = await self._engine.infer(tensors, context)
            # The framework makes JSON of the predictions at once, which is part of this turn.
            async with self.turns.turn(context, until_next_step=True):
                predictions = list(await self._convert_in_thread(self._to_predictions, outputs))
        if len(predictions) != len(instances):
            raise InferenceFailed from ValueError(
                f"{len(instances)} instances gave {len(predictions)} predictions"
            )
        return predictions

    async def _convert(self, conversion: Callable[[GivenT], MadeT], given: GivenT) -> MadeT:
        """Call a conversion, but not while a thread calls one: owners need no locks in theirs."""
        if not self._conversions.taken:
            return conversion(given)
        async with self._conversions.turn(self._context):
            return conversion(given)

    async def _convert_in_thread(
        self, conversion: Callable[[GivenT], MadeT], given: GivenT
    ) -> MadeT:
        async with self._conversions.turn(self._context):
            return await asyncio.to_thread(conversion, given)

    def examples_for(self, inputs: Sequence[TensorSpec]) -> Examples | None:
        """Convert the examples of the schema, if it has any, to the inputs of the model.

        Raises:
            InvalidTensors: they are not the model's inputs.
        """
        given: list[Any] = self._instance.model_json_schema().get("examples", [])
        if not given:
            return None
        instances = [self._instance.model_validate(example) for example in given]
        try:
            tensors = [self._to_tensors([instance]) for instance in instances]
            for each in tensors:
                check_inputs(inputs, each)
            return of_instances(tensors, "the examples of predict.py")
        except InvalidTensors as error:
            raise InvalidTensors(
                f"predict.py and the model's manifest disagree: {error.detail} Change one of them, "
                "or set SERVICE_PREDICT_ENDPOINT=false to serve the model without /predict."
            ) from None
