"""The OpenAPI document: /predict, the protocol, and the owner's routes.

The framework describes only the owner's routes. Whatever every service has is described here, so
that the document is the same with every framework. The schemas are pydantic's.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, create_model
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service.core import manifest
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import TensorSpec
from service.core.uploads import kinds_of_files
from service.ops.settings import Settings
from service.web import predict_schema
from service.web.instance_fields import InstanceFields
from service.web.multipart import FORM
from service.web.openai import embeddings
from service.web.openai.schemas import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    OpenAIError,
    is_embedding,
)
from service.web.openapi.schemas import (
    InferenceRequest,
    InferenceResponse,
    Liveness,
    ModelMetadata,
    Problem,
    ProtocolError,
    Readiness,
    RouteProblem,
    ServerMetadata,
)
from service.web.predict_schema import PredictRequest, PredictResponse, instance_type
from service.web.service_info import service_info

Document = dict[str, Any]

PATH: Final = "/openapi.json"

_SCHEMAS: Final = "#/components/schemas/"
_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_BINARY: Final = {
    "application/octet-stream": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "JSON, followed by the tensors that have 'binary_data_size', in order",
        }
    }
}
_JSON_LENGTH: Final = "Inference-Header-Content-Length"
_JSON_LENGTH_HEADER: Final = {
    "description": "Bytes of JSON before the binary data; without it, all of the body is JSON",
    "schema": {"type": "integer", "minimum": 0},
}
_REQUEST_TIMEOUT: Final = {
    "name": "Request-Timeout",
    "in": "header",
    "description": "Seconds after which the client does not need the answer any more; it can "
    "shorten the service's own timeout, not lengthen it",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_RETRY_AFTER: Final = {
    "description": "Seconds until another attempt has a fair chance",
    "schema": {"type": "integer", "minimum": 1},
}
_TAGS: Final = {
    "prediction": "Predictions for instances",
    "embeddings": "Vectors of texts, in the form of OpenAI's API",
    "inference": "Tensors in and out: the Open Inference Protocol V2",
    "operations": "Probes and metrics",
}
_SECURITY_SCHEMES: Final = {
    "BearerKey": {"type": "http", "scheme": "bearer"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_FAILURES: Final = {
    400: "The body is malformed, or does not fit the model",
    401: "The API key is missing or wrong",
    404: "There is no such model or version",
    413: "The body or its contents are too large",
    415: "The content type or the content encoding is not supported",
    422: "Values do not match the schema; every wrong field is listed",
    500: "The model could not process the request",
    503: "The model is not ready, or the queue is full or too long for the deadline",
    504: "The deadline passed before the model was done",
}
_MODELS: Final[dict[type[BaseModel], JsonSchemaMode]] = {
    InferenceRequest: "validation",
    InferenceResponse: "validation",
    Liveness: "validation",
    ModelMetadata: "validation",
    Problem: "validation",
    ProtocolError: "validation",
    Readiness: "validation",
    RouteProblem: "validation",
    ServerMetadata: "validation",
}
_EXAMPLE_ELEMENTS: Final = 64
"""Largest number of elements of a tensor in an example."""


def document(
    settings: Settings,
    framework_document: Document,
    request: type[PredictRequest[Any]],
    response: type[PredictResponse[Any]],
    *,
    root_path: str = "",
) -> Document:
    """Describe the service.

    ``framework_document``: the framework's description of the owner's routes. ``request`` and
    ``response``: the schemas of /predict. ``root_path``: the prefix that clients see.
    """
    ours = _Description(settings, request, response)
    components = ours.components()
    theirs = _without_collisions(framework_document, components["schemas"])
    paths = theirs.get("paths", {})
    for item in paths.values():
        for method in item.keys() & _METHODS:
            ours.complete(item[method])
    for kind, entries in theirs.get("components", {}).items():
        components[kind] = entries | components.get(kind, {})
    info = service_info()
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": info.title,
            "description": info.description,
            "version": info.version,
        },
        **servers,
        "tags": [
            {"name": name, "description": text}
            for name, text in _TAGS.items()
            if name != "embeddings" or ours.is_embedding
        ],
        "paths": paths | ours.paths(),
        "components": components,
    }


class _Description:
    """The parts of the document that every service has."""

    def __init__(
        self,
        settings: Settings,
        request: type[PredictRequest[Any]],
        response: type[PredictResponse[Any]],
    ) -> None:
        self._settings: Final = settings
        # A subclass, because a generic model has no description, and a name with its parameters.
        self._request: Final = create_model(
            PredictRequest.__name__, __base__=request, __doc__=PredictRequest.__doc__
        )
        self._response: Final = create_model(
            PredictResponse.__name__, __base__=response, __doc__=PredictResponse.__doc__
        )
        self._manifest: Final = _read_manifest(settings)
        self.is_embedding: Final = self._manifest is not None and is_embedding(self._manifest)
        models: dict[type[BaseModel], JsonSchemaMode] = dict(_MODELS)
        if self.is_embedding:
            models |= dict.fromkeys(
                (EmbeddingsRequest, EmbeddingsResponse, OpenAIError), "validation"
            )
        if settings.predict_endpoint:
            models |= {self._request: "validation", self._response: "serialization"}
        references, definitions = models_json_schema(
            list(models.items()), ref_template=_SCHEMAS + "{model}"
        )
        self._schemas: Final[Document] = definitions["$defs"]
        self._references: Final = {model: schema for (model, _), schema in references.items()}

    def components(self) -> Document:
        components: Document = {"schemas": self._schemas}
        if self._settings.api_keys:
            components["securitySchemes"] = _SECURITY_SCHEMES
        return components

    def paths(self) -> Document:
        model = self._manifest
        name = _path_parameter("name", "Name of the model", model.name if model else None)
        version = _path_parameter(
            "version", "Version of the model", model.version if model else None
        )
        paths: Document = {}
        if self._settings.predict_endpoint:
            paths[predict_schema.PATH] = {"post": self._predict()}
        if model and self.is_embedding:
            paths[embeddings.PATH] = {"post": self._embeddings(model)}
        paths["/v2"] = {"get": self._server()}
        for path, prefix, parameters in (
            ("/v2/models/{name}", "model", [name]),
            ("/v2/models/{name}/versions/{version}", "model_version", [name, version]),
        ):
            paths[path] = {"get": self._metadata(prefix, parameters)}
            paths[f"{path}/infer"] = {"post": self._infer(prefix, parameters, model)}
            paths[f"{path}/ready"] = {"get": self._readiness(prefix, parameters)}
        paths["/v2/health/live"] = {"get": self._liveness()}
        paths["/v2/health/ready"] = {"get": self._readiness("server", [])}
        paths["/metrics"] = {"get": _metrics()}
        return paths

    def complete(self, operation: Document) -> None:
        """Add what every route of the service has to an operation of the owner's."""
        failure = operation.setdefault("responses", {}).setdefault("default", {})
        failure.setdefault("description", "Problem")
        failure.setdefault("content", self._content(RouteProblem, _PROBLEM))
        self._secure(operation)

    def _predict(self) -> Document:
        content = self._content(self._request)
        instance = instance_type(self._request)
        if examples := instance.model_json_schema().get("examples"):
            ordered = [_in_field_order(instance, each) for each in examples]
            content[_JSON]["example"] = {"instances": ordered}
        content |= self._files(instance)
        operation = {
            "operationId": "predict",
            "tags": ["prediction"],
            "summary": "Predict instances",
            "description": "Returns one prediction for each instance, in their order.",
            "parameters": [_REQUEST_TIMEOUT],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": self._success(self._response),
                **self._failures(Problem, _PROBLEM, 400, 401, 413, 415, 422, 500, 503, 504),
            },
        }
        return self._secure(operation)

    def _embeddings(self, model: Manifest) -> Document:
        content = self._content(EmbeddingsRequest)
        content[_JSON]["example"] = {"model": model.name, "input": ["text"]}
        operation = {
            "operationId": "embeddings",
            "tags": ["embeddings"],
            "summary": "Embed texts",
            "description": "Returns one embedding for each text, as OpenAI's API does.",
            "parameters": [_REQUEST_TIMEOUT],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": self._success(EmbeddingsResponse),
                **self._failures(OpenAIError, _JSON, 400, 401, 404, 413, 415, 500, 503, 504),
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

    def _infer(self, prefix: str, parameters: list[Document], model: Manifest | None) -> Document:
        content = self._content(InferenceRequest)
        if example := model and _example_request(model.input_specs()):
            content[_JSON]["example"] = example
        success = self._success(InferenceResponse)
        success["content"] |= _BINARY
        success["headers"] = {_JSON_LENGTH: _JSON_LENGTH_HEADER}
        operation = {
            "operationId": f"{prefix}_infer",
            "tags": ["inference"],
            "summary": "Run the model on tensors",
            "description": "Tensors are JSON, or binary data after the JSON.",
            "parameters": [
                *parameters,
                {"name": _JSON_LENGTH, "in": "header", **_JSON_LENGTH_HEADER},
                _REQUEST_TIMEOUT,
            ],
            "requestBody": {"required": True, "content": content | _BINARY},
            "responses": {
                "200": success,
                **self._failures(ProtocolError, _JSON, 400, 401, 404, 413, 415, 500, 503, 504),
            },
        }
        return self._secure(operation)

    def _metadata(self, prefix: str, parameters: list[Document]) -> Document:
        return {
            "operationId": f"{prefix}_metadata",
            "tags": ["inference"],
            "summary": "Describe the model and its tensors",
            "parameters": parameters,
            "responses": {
                "200": self._success(ModelMetadata),
                **self._failures(ProtocolError, _JSON, 404, 503),
            },
        }

    def _server(self) -> Document:
        return {
            "operationId": "server_metadata",
            "tags": ["inference"],
            "summary": "Describe the server",
            "responses": {"200": self._success(ServerMetadata)},
        }

    def _liveness(self) -> Document:
        return {
            "operationId": "server_live",
            "tags": ["operations"],
            "summary": "Check whether the process can answer",
            "responses": {"200": self._success(Liveness)},
        }

    def _readiness(self, prefix: str, parameters: list[Document]) -> Document:
        return {
            "operationId": f"{prefix}_ready",
            "tags": ["operations"],
            "summary": "Check whether the service is ready to predict",
            "parameters": parameters,
            "responses": {
                "200": self._success(Readiness),
                **(self._failures(ProtocolError, _JSON, 404) if parameters else {}),
                "503": {"description": "Not ready", "content": self._content(Readiness)},
            },
        }

    def _success(self, model: type[BaseModel]) -> Document:
        return {"description": "Success", "content": self._content(model)}

    def _failures(self, model: type[BaseModel], media_type: str, *statuses: int) -> Document:
        failures: Document = {}
        for status in statuses:
            if status != 401 or self._settings.api_keys:
                content = self._content(model, media_type)
                failures[str(status)] = {"description": _FAILURES[status], "content": content}
        if "503" in failures:
            failures["503"]["headers"] = {"Retry-After": _RETRY_AFTER}
        return failures

    def _content(self, model: type[BaseModel], media_type: str = _JSON) -> Document:
        return {media_type: {"schema": self._references[model]}}

    def _secure(self, operation: Document) -> Document:
        if self._settings.api_keys:
            operation["security"] = [{scheme: []} for scheme in _SECURITY_SCHEMES]
        return operation


def _in_field_order(instance: type[BaseModel], example: Document) -> Document:
    """Undo the alphabetical order that pydantic gives to the keys of an example."""
    return {name: example[name] for name in instance.model_fields if name in example} | example


def _metrics() -> Document:
    return {
        "operationId": "metrics",
        "tags": ["operations"],
        "summary": "Report metrics to Prometheus",
        "responses": {
            "200": {
                "description": "Success",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    }


def _path_parameter(name: str, description: str, example: str | None) -> Document:
    parameter: Document = {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }
    if example:
        parameter["example"] = example
    return parameter


def _read_manifest(settings: Settings) -> Manifest | None:
    """Read the manifest, for examples; without a model the document has none."""
    try:
        return manifest.read(settings.model_dir)
    except ArtifactError:
        return None


def _example_request(specs: Sequence[TensorSpec]) -> Document | None:
    """Return a request of zeros, None if it would be long or cannot be JSON."""
    inputs = []
    for spec in specs:
        array = spec.zeros(1)
        if array.size > _EXAMPLE_ELEMENTS or spec.datatype == "FP16":
            return None
        data = ["text"] * array.size if spec.datatype == "BYTES" else array.ravel().tolist()
        inputs.append(
            {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype, "data": data}
        )
    return {"inputs": inputs}


def _without_collisions(framework_document: Document, schemas: Document) -> Document:
    """Copy the framework's document, and rename schemas that have the name of one of ours."""
    text = json.dumps(framework_document)
    theirs = framework_document.get("components", {}).get("schemas", {})
    renamed = {}
    for name in theirs.keys() & schemas.keys():
        if theirs[name] != schemas[name]:
            renamed[name] = f"routes.{name}"
            text = text.replace(f'"{_SCHEMAS}{name}"', f'"{_SCHEMAS}routes.{name}"')
    document: Document = json.loads(text)
    if renamed:
        document["components"]["schemas"] = {
            renamed.get(name, name): schema
            for name, schema in document["components"]["schemas"].items()
        }
    return document
