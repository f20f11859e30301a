"""The ASGI application with /predict, which takes instances in JSON, in forms and as files."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from service.core.engine import Engine
from service.core.errors import TooLarge
from service.core.examples import Examples
from service.core.predictor import Predictor
from service.core.resources import Resources
from service.core.tensors import TensorSpec
from service.core.turns import pause
from service.core.uploads import kinds_of_files, set_aside
from service.ops.settings import Settings
from service.web import predict_schema
from service.web.asgi import JSON, Scope
from service.web.errors import Malformed, MethodNotAllowed, NotFound, UnsupportedMediaType
from service.web.forms import Forms
from service.web.front import Front, content_type
from service.web.further_paths import ASKED
from service.web.openai.text_instances import TextInstances
from service.web.openapi.predict import PredictDescription
from service.web.predict_schema import PredictRequest, PredictResponse
from service.web.request_cycle import RequestCycle
from service.web.strict_json import check_json, is_json

if TYPE_CHECKING:
    from service.interfaces import Framework


class PredictFront(Front):
    """A front whose framework also answers /predict.

    ``request`` and ``response``: the schemas of /predict.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        predictor: Predictor[Any, Any],
        resources: Resources,
        framework: "Framework",
        request: type[PredictRequest[Any]],
        response: type[PredictResponse[Any]],
    ) -> None:
        texts = TextInstances(predictor, is_on=settings.predict_endpoint)
        super().__init__(settings, engine, framework, predictor.turns, texts)
        self._offered["predictor"] = predictor
        self._predictor: Final = predictor
        self._resources: Final = resources
        self._schemas: Final = (request, response)
        instance = predict_schema.instance_type(request)
        takes_files = settings.predict_endpoint and kinds_of_files(instance)
        self._forms: Final = Forms(instance, settings, self._values) if takes_files else None
        self._predict_json: Final = (
            self._bodies.json_limit("Files may be larger in a form, multipart/form-data.")
            if self._forms
            else self._bodies.json
        )

    async def _open(self) -> None:
        """Open the resources of predict.py and load the model, which must fit its examples."""
        if self._forms:
            self._forms.check_libraries()
        await self._resources.open()
        await super()._open()

    async def _examples_for(self, inputs: Sequence[TensorSpec]) -> Examples | None:
        nothing = await super()._examples_for(inputs)
        if not self._settings.predict_endpoint:
            return nothing
        return await self._predictor.examples_for(inputs)

    async def _close(self) -> None:
        await super()._close()
        await self._resources.close()

    async def _answer_by_framework(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        if _is_predict(scope["path"]):
            await self._answer_predict(cycle, scope, headers)
        else:
            await super()._answer_by_framework(cycle, scope, headers)

    async def _answer_predict(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        self._keys.check(headers)
        # Some routers also find /predict at /predict/ and at //predict.
        if not self._settings.predict_endpoint or scope["path"] != predict_schema.PATH:
            raise NotFound
        cycle.route = predict_schema.PATH
        if scope["method"] != "POST":
            raise MethodNotAllowed(["POST"])
        given = content_type(scope)
        has_json = is_json(given)
        if not has_json:
            if not self._forms:
                raise UnsupportedMediaType("The body must be application/json.")
            self._forms.check_content_type(given)
        self._apply_request_timeout(cycle.context, headers)
        limit = self._predict_json if has_json else self._bodies.any
        body = await self._bodies.read(cycle, headers, limit)
        if not body:
            raise Malformed("The body is empty.")
        if has_json or not self._forms:
            await self._check_and_predict(cycle, scope, body)
            return
        body, files = await self._forms.read(
            body, given, self._max_instances, self._turns.turn(cycle.context, at_once=True)
        )
        with set_aside(files):
            await self._check_and_predict(cycle, _with_json(scope, body), body)

    async def _check_and_predict(self, cycle: RequestCycle, scope: Scope, body: bytes) -> None:
        """Check JSON and give it to the framework, a large one in its turn.

        The predictor ends the turn.
        """
        if not await self._values.check(body, len(body)):
            document = check_json(body)
            self._check_instances(document)
            if ASKED in scope and (shorter := _without_parameters(document)):
                scope, body = _with_json(scope, shorter), shorter
            await self._call_framework(cycle, scope, body)
            return
        cycle.context.large = True
        async with self._turns.turn(cycle.context):
            document = check_json(body)
            self._check_instances(document)
            await pause()
            if ASKED in scope and (shorter := _without_parameters(document)):
                scope, body = _with_json(scope, shorter), shorter
                await pause()
            if self._forms:
                shorter, files = await self._forms.set_aside(document)
                del document
                if files:
                    if not await self._values.check(shorter, len(shorter)):
                        cycle.context.large = False
                        self._turns.end(cycle.context)
                    with set_aside(files):
                        await self._call_framework(cycle, _with_json(scope, shorter), shorter)
                    return
            await self._call_framework(cycle, scope, body)

    def _is_owners(self, path: str) -> bool:
        return path != predict_schema.PATH and super()._is_owners(path)

    def _predictions(self) -> str:
        return predict_schema.PATH if self._settings.predict_endpoint else super()._predictions()

    def _check_instances(self, document: Any) -> None:
        """Check their number before the framework makes objects of them.

        Raises:
            TooLarge: there are too many.
        """
        limit = self._max_instances
        instances = document.get("instances") if isinstance(document, dict) else None
        if isinstance(instances, list) and len(instances) > limit:
            raise TooLarge(f"A request may have up to {limit} instances.")

    def _description(self) -> PredictDescription:
        return PredictDescription(self._settings, self._further, *self._schemas)


def _without_parameters(document: Any) -> bytes | None:
    """Take ``parameters`` out of a request; return its JSON, None if there are none."""
    if not isinstance(document, dict) or "parameters" not in document:
        return None
    del document["parameters"]
    return json.dumps(document).encode("ascii")


def _is_predict(path: str) -> bool:
    return path == predict_schema.PATH or path.replace("/", "") == predict_schema.PATH[1:]


def _with_json(scope: Scope, body: bytes) -> Scope:
    """Return the scope of a request whose body is this JSON instead."""
    replaced = (b"content-type", b"content-length", b"transfer-encoding")
    headers = [header for header in scope["headers"] if header[0] not in replaced]
    length = (b"content-length", str(len(body)).encode("ascii"))
    return {**scope, "headers": [*headers, JSON, length]}
