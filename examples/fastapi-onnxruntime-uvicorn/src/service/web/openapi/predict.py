"""The part of the OpenAPI document that describes /predict."""

from typing import Any, Final

from pydantic import BaseModel, create_model

from service.core.uploads import kinds_of_files
from service.ops.settings import Settings
from service.web import predict_schema
from service.web.further_paths import FurtherPaths
from service.web.instance_fields import InstanceFields
from service.web.multipart import FORM
from service.web.openapi.document import (
    JSON,
    PROBLEM,
    REQUEST_TIMEOUT,
    Description,
    Document,
    Models,
)
from service.web.openapi.schemas import Problem
from service.web.predict_schema import PredictRequest, PredictResponse, instance_type


class PredictDescription(Description):
    """What a service with /predict has.

    ``request`` and ``response``: the schemas of /predict.
    """

    def __init__(
        self,
        settings: Settings,
        further: FurtherPaths,
        request: type[PredictRequest[Any]],
        response: type[PredictResponse[Any]],
    ) -> None:
        # A subclass, because a generic model has no description, and a name with its parameters.
        self._request: Final = create_model(
            PredictRequest.__name__, __base__=request, __doc__=PredictRequest.__doc__
        )
        self._response: Final = create_model(
            PredictResponse.__name__, __base__=response, __doc__=PredictResponse.__doc__
        )
        super().__init__(settings, further)

    def _models(self) -> Models:
        models = super()._models()
        if not self._settings.predict_endpoint:
            return models
        return {**models, self._request: "validation", self._response: "serialization"}

    def tags(self) -> dict[str, str]:
        return {"prediction": "Predictions for instances", **super().tags()}

    def paths(self) -> Document:
        paths = super().paths()
        if not self._settings.predict_endpoint:
            return paths
        return {predict_schema.PATH: {"post": self._predict()}, **paths}

    def _further_predict(self) -> Document:
        if not self._settings.predict_endpoint:
            return super()._further_predict()
        operation = self._predict()
        schema = self._schemas[PredictRequest.__name__]
        parameters = {"description": "Ignored", "title": "Parameters"}
        properties = {**schema["properties"], "parameters": parameters}
        operation["requestBody"]["content"][JSON]["schema"] = {**schema, "properties": properties}
        return {**operation, "operationId": "platform_predict"}

    def _predict(self) -> Document:
        content = self._content(self._request)
        instance = instance_type(self._request)
        if examples := instance.model_json_schema().get("examples"):
            ordered = [_in_field_order(instance, each) for each in examples]
            content[JSON]["example"] = {"instances": ordered}
        content |= self._files(instance)
        operation = {
            "operationId": "predict",
            "tags": ["prediction"],
            "summary": "Predict instances",
            "description": "Returns one prediction for each instance, in their order.",
            "parameters": [REQUEST_TIMEOUT],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": self._success(self._response),
                **self._failures(Problem, PROBLEM, 400, 401, 413, 415, 422, 500, 503, 504),
            },
        }
        return self._secure(operation)

    def _files(self, instance: type[BaseModel]) -> Document:
        """Describe bodies that are not JSON, nothing if instances hold no files."""
        if not kinds_of_files(instance):
            return {}
        schema = self._schemas[PredictRequest.__name__]["properties"]["instances"]["items"]
        fields = InstanceFields({**schema, "$defs": self._schemas})
        if not fields.files:
            return {}
        content: Document = {FORM: {"schema": fields.form()}}
        if fields.body:
            name, field = fields.body
            file = {"type": "string", "format": "binary", "description": f"The file of '{name}'"}
            content[field.media_type] = {"schema": file}
        return content


def _in_field_order(instance: type[BaseModel], example: Document) -> Document:
    """Undo the alphabetical order that pydantic gives to the keys of an example."""
    return {name: example[name] for name in instance.model_fields if name in example} | example
