"""Predictions for instances: the conversions of `service.predict` around the engine."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from service.core.engine import Engine
from service.core.errors import InferenceFailed, InvalidTensors, Refused
from service.core.manifest import ModelInfo
from service.core.refusal import locate
from service.core.request_context import RequestContext
from service.core.tensors import Tensors, TensorSpec, check_inputs

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT", bound=BaseModel)


class Predictor(Generic[InstanceT, PredictionT]):
    """Turns instances into tensors, runs the model, and turns its outputs into predictions.

    ``context``: that of the request it predicts for; without one, the service's own timeout applies
    to each call.
    """

    __slots__ = ("_context", "_engine", "_instance", "_to_predictions", "_to_tensors")

    def __init__(
        self,
        engine: Engine,
        instance: type[InstanceT],
        to_tensors: Callable[[Sequence[InstanceT]], Tensors],
        to_predictions: Callable[[Tensors], Sequence[PredictionT]],
        context: RequestContext | None = None,
    ) -> None:
        self._engine: Final = engine
        self._instance: Final = instance
        self._to_tensors: Final = to_tensors
        self._to_predictions: Final = to_predictions
        self._context: Final = context

    def with_context(self, context: RequestContext | None) -> "Predictor[InstanceT, PredictionT]":
        """Return a predictor for one request."""
        return Predictor(
            self._engine, self._instance, self._to_tensors, self._to_predictions, context
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
            Refused: the conversions or the model cannot take an instance.
            ServiceError: what `Engine.infer` raises; InferenceFailed also if the conversions give
                another number of predictions.
        """
        tensors = self._tensors(instances)
        try:
            outputs = await self._engine.infer(tensors, self._context)
        except Refused as error:
            if error.instance is None and len(instances) == 1:
                error.instance = 0
            raise
        predictions = self._predictions(outputs, len(instances))
        if len(predictions) != len(instances):
            raise InferenceFailed from ValueError(
                f"{len(instances)} instances gave {len(predictions)} predictions"
            )
        return predictions

    def _tensors(self, instances: Sequence[InstanceT]) -> Tensors:
        try:
            return self._to_tensors(instances)
        except Refused as error:
            count = len(instances)
            raise locate(error, count, lambda part: self._to_tensors(instances[part])) from None

    def _predictions(self, outputs: Tensors, count: int) -> list[PredictionT]:
        def convert(rows: slice) -> Sequence[PredictionT]:
            return self._to_predictions({name: array[rows] for name, array in outputs.items()})

        try:
            return list(self._to_predictions(outputs))
        except Refused as error:
            if any(array.shape[:1] != (count,) for array in outputs.values()):
                raise
            raise locate(error, count, convert) from None

    def check_inputs(self, inputs: Sequence[TensorSpec]) -> None:
        """Check with the examples of the schema that the tensors are those of the model.

        Raises:
            InvalidTensors: they are not.
        """
        examples: list[Any] = self._instance.model_json_schema().get("examples", [])
        if not examples:
            return
        instances = [self._instance.model_validate(example) for example in examples]
        try:
            check_inputs(inputs, self._tensors(instances))
        except Refused as error:
            raise InvalidTensors(f"predict.py refuses an example of its schema: {error}") from None
        except InvalidTensors as error:
            raise InvalidTensors(
                f"predict.py and the model's manifest disagree: {error.detail} Change one of them, "
                "or set SERVICE_PREDICT_ENDPOINT=false to serve the model without /predict."
            ) from None
