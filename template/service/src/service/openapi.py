"""The OpenAPI document: the typed endpoint and the protocol, with the framework's own routes.

What every service has is described here and not by its framework, so that it is described alike
under all of them. The schemas are pydantic's.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service import manifest, typed
from service.about import about
from service.config import Settings
from service.manifest import ArtifactError, Manifest
from service.model import Instance
from service.schemas import (
    InferenceRequest,
    InferenceResponse,
    Liveness,
    ModelMetadata,
    Problem,
    ProtocolError,
    Readiness,
    ServerMetadata,
)
from service.tensors import TensorSpec
from service.typed import PredictRequest, PredictResponse

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
            "description": "JSON and behind it the tensors that have 'binary_data_size', in order",
        }
    }
}
_JSON_LENGTH: Final = "Inference-Header-Content-Length"
_JSON_LENGTH_HEADER: Final = {
    "description": "Bytes of JSON before the binary data; without it all of the body is JSON",
    "schema": {"type": "integer", "minimum": 0},
}
_REQUEST_TIMEOUT: Final = {
    "name": "Request-Timeout",
    "in": "header",
    "description": "Seconds until the answer is of no use any more; it cannot lengthen the "
    "service's own deadline",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_RETRY_AFTER: Final = {
    "description": "Seconds until another try has a fair chance",
    "schema": {"type": "integer", "minimum": 1},
}
_TAGS: Final = {
    "prediction": "Predictions from the values of the domain",
    "inference": "Tensors in and out: the Open Inference Protocol V2",
    "operations": "Probes and metrics",
}
_SECURITY_SCHEMES: Final = {
    "BearerKey": {"type": "http", "scheme": "bearer"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_FAILURES: Final = {
    400: "The body is malformed, or contradicts itself or the model",
    401: "The API key is missing or wrong",
    404: "There is no such model or version",
    413: "The body, or what it holds, is too large",
    415: "The content type or the content encoding is not supported",
    422: "Values do not follow the schema; every wrong field is listed",
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
    ServerMetadata: "validation",
}
_TYPED_MODELS: Final[dict[type[BaseModel], JsonSchemaMode]] = {
    PredictRequest: "validation",
    PredictResponse: "serialization",
}
_EXAMPLE_ELEMENTS: Final = 64
"""Elements that a tensor in an example may have."""


def document(settings: Settings, framework_document: Document) -> Document:
    """Describe the service.

    ``framework_document``: what the framework says of the user's own routes.
    """
    ours = _Description(settings)
    components = ours.components()
    theirs = _without_collisions(framework_document, components["schemas"])
    paths = theirs.get("paths", {})
    for item in paths.values():
        for method in item.keys() & _METHODS:
            ours.complete(item[method])
    for kind, entries in theirs.get("components", {}).items():
        components[kind] = entries | components.get(kind, {})
    described = about()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": described.title,
            "description": described.description,
            "version": described.version,
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths | ours.paths(),
        "components": components,
    }


class _Description:
    """What every service has, as parts of the document."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        models = _MODELS | _TYPED_MODELS if settings.typed_endpoint else _MODELS
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
        model = _read_manifest(self._settings)
        name = _path_parameter("name", "Name of the model", model.name if model else None)
        version = _path_parameter(
            "version", "Version of the model", model.version if model else None
        )
        paths: Document = {}
        if self._settings.typed_endpoint:
            paths[typed.PATH] = {"post": self._predict()}
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
        """Add to an operation of the user's own what the service does for each."""
        failure = operation.setdefault("responses", {}).setdefault("default", {})
        failure.setdefault("description", "Problem")
        failure.setdefault("content", self._content(Problem, _PROBLEM))
        self._secure(operation)

    def _predict(self) -> Document:
        content = self._content(PredictRequest)
        if examples := Instance.model_json_schema().get("examples"):
            content[_JSON]["example"] = {"instances": [_in_field_order(each) for each in examples]}
        operation = {
            "operationId": "predict",
            "tags": ["prediction"],
            "summary": "Predict instances",
            "description": "Gives one prediction for each instance, in their order.",
            "parameters": [_REQUEST_TIMEOUT],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": self._success(PredictResponse),
                **self._failures(Problem, _PROBLEM, 400, 401, 413, 415, 422, 500, 503, 504),
            },
        }
        return self._secure(operation)

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
            "description": "Tensors come and go as JSON, or as binary data behind the JSON.",
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
            "summary": "Tell whether the process can answer",
            "responses": {"200": self._success(Liveness)},
        }

    def _readiness(self, prefix: str, parameters: list[Document]) -> Document:
        return {
            "operationId": f"{prefix}_ready",
            "tags": ["operations"],
            "summary": "Tell whether predictions can be had",
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


def _in_field_order(example: Document) -> Document:
    """Undo the alphabetical order that pydantic gives to the keys of an example."""
    return {name: example[name] for name in Instance.model_fields if name in example} | example


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
    """Read which model there is, for examples; the document is to be had without a model too."""
    try:
        return manifest.read(settings.model_dir)
    except ArtifactError:
        return None


def _example_request(specs: Sequence[TensorSpec]) -> Document | None:
    """Make a request of zeros, None where it would be long or cannot be JSON."""
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
    """Copy the framework's document; its schemas that ours would shadow get another name."""
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
