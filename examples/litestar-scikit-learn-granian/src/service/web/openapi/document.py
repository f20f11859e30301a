"""The OpenAPI document: the protocol, and the owner's routes.

The framework describes only the owner's routes. Whatever every service has is described here, so
that the document is the same with every framework. The schemas are pydantic's.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service.core import manifest
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import TensorSpec
from service.ops.settings import Settings
from service.web.further_paths import FurtherPaths
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
from service.web.service_info import service_info

Document = dict[str, Any]
Models = dict[type[BaseModel], JsonSchemaMode]

PATH: Final = "/openapi.json"

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
REQUEST_TIMEOUT: Final = {
    "name": "Request-Timeout",
    "in": "header",
    "description": "Seconds after which the client does not need the answer any more; it can "
    "shorten the service's own timeout, not lengthen it",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}

_SCHEMAS: Final = "#/components/schemas/"
_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
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
_RETRY_AFTER: Final = {
    "description": "Seconds until another attempt has a fair chance",
    "schema": {"type": "integer", "minimum": 1},
}
_TAGS: Final = {
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
_MODELS: Final[Models] = {
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


def document(framework_document: Document, ours: "Description", *, root_path: str = "") -> Document:
    """Describe the service.

    ``framework_document``: the framework's description of the owner's routes. ``ours``: what there
    is besides. ``root_path``: the prefix that clients see.
    """
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
        "tags": [{"name": name, "description": text} for name, text in ours.tags().items()],
        "paths": paths | ours.paths(),
        "components": components,
    }


class Description:
    """The parts of the document that every service has."""

    def __init__(self, settings: Settings, further: FurtherPaths) -> None:
        self._settings: Final = settings
        self._further: Final = further
        self._manifest: Final = _read_manifest(settings)
        self._is_embedding: Final = self._manifest is not None and is_embedding(self._manifest)
        references, definitions = models_json_schema(
            list(self._models().items()), ref_template=_SCHEMAS + "{model}"
        )
        self._schemas: Final[Document] = definitions["$defs"]
        self._references: Final = {model: schema for (model, _), schema in references.items()}

    def _models(self) -> Models:
        """Return the models whose schemas the document has."""
        if not self._is_embedding:
            return _MODELS
        return {
            **_MODELS,
            EmbeddingsRequest: "validation",
            EmbeddingsResponse: "validation",
            OpenAIError: "validation",
        }

    def tags(self) -> dict[str, str]:
        """Return the groups of operations, with what they are for."""
        return {
            name: text for name, text in _TAGS.items() if name != "embeddings" or self._is_embedding
        }

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
        if model and self._is_embedding:
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
        if not self._settings.metrics_port:
            paths["/metrics"] = {"get": _metrics()}
        if path := self._further.health:
            paths[path] = {"get": self._readiness("platform", [])}
        if path := self._further.predict:
            paths[path] = {"post": self._further_predict()}
        return paths

    def complete(self, operation: Document) -> None:
        """Add what every route of the service has to an operation of the owner's."""
        failure = operation.setdefault("responses", {}).setdefault("default", {})
        failure.setdefault("description", "Problem")
        failure.setdefault("content", self._content(RouteProblem, PROBLEM))
        self._secure(operation)

    def _embeddings(self, model: Manifest) -> Document:
        content = self._content(EmbeddingsRequest)
        content[JSON]["example"] = {"model": model.name, "input": ["text"]}
        operation = {
            "operationId": "embeddings",
            "tags": ["embeddings"],
            "summary": "Embed texts",
            "description": "Returns one embedding for each text, as OpenAI's API does.",
            "parameters": [REQUEST_TIMEOUT],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": self._success(EmbeddingsResponse),
                **self._failures(OpenAIError, JSON, 400, 401, 404, 413, 415, 500, 503, 504),
            },
        }
        return self._secure(operation)

    def _further_predict(self) -> Document:
        """Describe the further path for predictions, which infers here."""
        return self._infer("platform", [], self._manifest)

    def _infer(self, prefix: str, parameters: list[Document], model: Manifest | None) -> Document:
        content = self._content(InferenceRequest)
        if example := model and _example_request(model.input_specs()):
            content[JSON]["example"] = example
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
                REQUEST_TIMEOUT,
            ],
            "requestBody": {"required": True, "content": content | _BINARY},
            "responses": {
                "200": success,
                **self._failures(ProtocolError, JSON, 400, 401, 404, 413, 415, 500, 503, 504),
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
                **self._failures(ProtocolError, JSON, 404, 503),
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
                **(self._failures(ProtocolError, JSON, 404) if parameters else {}),
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

    def _content(self, model: type[BaseModel], media_type: str = JSON) -> Document:
        return {media_type: {"schema": self._references[model]}}

    def _secure(self, operation: Document) -> Document:
        if self._settings.api_keys:
            operation["security"] = [{scheme: []} for scheme in _SECURITY_SCHEMES]
        return operation


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
