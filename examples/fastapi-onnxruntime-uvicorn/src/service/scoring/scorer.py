"""Predictions for rows: the instances, conversions and engine of /predict, without HTTP."""

import asyncio
import functools
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from service.core.engine import Engine
from service.core.errors import DeadlineExceeded, NotReady, ServiceError
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.core.resources import Resources
from service.ops.settings import PREFIX, Settings
from service.scoring.errors import CannotScore, Refusal, Row
from service.scoring.refusals import from_validation, refusal_of
from service.web.errors import status_of
from service.web.predict_schema import PredictRequest, PredictResponse

if TYPE_CHECKING:
    from service.interfaces import Runtime

log = logging.getLogger("service.scoring")

Checked = BaseModel | Refusal
Answered = bytes | Refusal
"""The JSON of a prediction, or why there is none."""

_TICK: Final = 0.25
"""Seconds between two looks at whether the model hangs."""
_BATCHES: Final = 8
"""Batches of one request, if rows are small: between them the model need not wait."""
_SMALL_ROW: Final = 4096
"""Bytes of its tensors."""
_BEFORE: Final = b'{"predictions":['


class Scorer:
    """Predicts for rows. ``predict``: the module `service.predict`."""

    def __init__(self, settings: Settings, predict: ModuleType, runtime: "Runtime") -> None:
        self._timeout: Final = settings.request_timeout
        self.engine: Final = Engine(settings, runtime)
        make = getattr(predict, "resources", None)
        self._resources: Final = Resources(make, self.engine.leave, settings.model_dir)
        self._predictor: Final = Predictor[Any, Any](
            self.engine,
            predict.Instance,
            self._resources.bind(predict.to_tensors),
            predict.to_predictions,
        )
        self._request: Final[Any] = PredictRequest[predict.Instance]  # type: ignore[name-defined]
        self._response: Final[Any] = PredictResponse[predict.Prediction]  # type: ignore[name-defined]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the resources of predict.py and load the model, as the service does.

        Raises:
            ArtifactError, CannotStart, ServiceError: they cannot be used.
        """
        await self._resources.open()
        try:
            await self.engine.start(self._predictor.examples_for)
            tick = asyncio.create_task(self._tick())
            try:
                yield
            finally:
                tick.cancel()
                await self.engine.close()
        finally:
            await self._resources.close()

    @property
    def request_size(self) -> int:
        """Rows of one request: those of a batch, or of several if rows are small."""
        specs = self.engine.inputs
        has_fixed_size = all(size > 0 for spec in specs for size in spec.shape[1:])
        if has_fixed_size and sum(spec.zeros(1).nbytes for spec in specs) <= _SMALL_ROW:
            return _BATCHES * self.engine.max_batch_size
        return self.engine.max_batch_size

    def check(self, rows: Sequence[Row]) -> list[Checked]:
        """Return the instance of each row, or why there is none.

        Raises:
            CannotScore: predict.py raises what is not a refusal.
        """
        readable = [row for row in rows if row.refusal is None]
        try:
            made: list[Checked] = [*self._validated([row.instance for row in readable])]
        except Exception:  # one of them is wrong, and the others may be right
            made = [self._check_alone(row) for row in readable]
        valid = iter(made)
        return [row.refusal or next(valid) for row in rows]

    async def predict(self, instances: Sequence[BaseModel]) -> list[bytes]:
        """Return the JSON of one prediction for each instance.

        Raises:
            ServiceError: with which /predict would respond if it were asked for all of them.
        """
        batches = math.ceil(len(instances) / self.engine.max_batch_size)
        predictor = self._predictor.with_context(RequestContext(batches * self._timeout))
        predictions = await predictor.predict(instances)
        # The response may also make predictions of what to_predictions returned.
        made = self._response(predictions=predictions, model=predictor.model).predictions
        return [self._json(each) for each in made]

    async def predict_each(
        self, rows: Sequence[Row], instances: Sequence[BaseModel]
    ) -> list[Answered]:
        """Predict for rows of which some are refused: less and less of them together.

        Raises:
            CannotScore: one of them would get a response that is not a refusal.
        """
        try:
            return list(await self.predict(instances))
        except (NotReady, DeadlineExceeded) as error:
            raise self.failed(rows, error) from error
        except Exception as error:
            if len(instances) == 1:
                return [self._refused_alone(rows, error)]
        middle = len(instances) // 2
        return [
            *await self.predict_each(rows[:middle], instances[:middle]),
            *await self.predict_each(rows[middle:], instances[middle:]),
        ]

    def failed(self, rows: Sequence[Row], error: BaseException) -> CannotScore:
        """Return why rows end the run."""
        first, last = rows[0].number, rows[-1].number
        where = f"row {first}" if first == last else f"rows {first} to {last}"
        if isinstance(error, DeadlineExceeded):
            limit = f"{PREFIX}REQUEST_TIMEOUT, {self._timeout:g} s"
            return CannotScore(f"{where}: a batch took longer than {limit}")
        cause = error.__cause__ or error
        log.error("%s cannot be scored", where, exc_info=cause)
        text = str(error) if cause is error else f"{error} {type(cause).__name__}: {cause}"
        if not isinstance(error, ServiceError):
            text = f"predict.py failed with {type(error).__name__}: {error}"
        return CannotScore(f"{where}: {text}".partition("\n")[0])

    def _validated(self, instances: Sequence[Any]) -> list[BaseModel]:
        if not instances:
            return []
        found: list[BaseModel] = self._request.model_validate({"instances": instances}).instances
        return found

    def _check_alone(self, row: Row) -> Checked:
        try:
            return self._validated([row.instance])[0]
        except ValidationError as error:
            return refusal_of(from_validation(error))
        except Exception as error:
            return self._refused_alone([row], error)

    def _refused_alone(self, rows: Sequence[Row], error: Exception) -> Refusal:
        """Return the refusal of a row that was alone in a request.

        Raises:
            CannotScore: it is not the row that is wrong.
        """
        if not isinstance(error, ServiceError) or (
            status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            raise self.failed(rows, error) from error
        return refusal_of(error)

    def _json(self, prediction: BaseModel) -> bytes:
        """Return the JSON of a prediction, cut out of a response as /predict writes it."""
        self._one.predictions[0] = prediction
        whole: str = self._one.model_dump_json(by_alias=True)
        return whole.encode()[len(_BEFORE) : -len(self._after)]

    @functools.cached_property
    def _one(self) -> Any:
        """A response with one prediction."""
        return self._response.model_construct(predictions=[None], model=self._predictor.model)

    @functools.cached_property
    def _after(self) -> bytes:
        """What follows the predictions in a response."""
        response = self._response(predictions=[], model=self._predictor.model)
        whole: str = response.model_dump_json(by_alias=True)
        return whole.encode()[len(_BEFORE) :]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.engine.check()
