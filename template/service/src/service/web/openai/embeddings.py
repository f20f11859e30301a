"""``POST /v1/embeddings``: texts in, vectors out, for clients of OpenAI's API.

It exists where the manifest says that the model is an embedding. Where the model takes texts, they
are its input; where it takes something else, such as ids of tokens, a `TextConverter` makes that.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import orjson
from pydantic import ValidationError

from service.core.engine import Engine
from service.core.errors import InferenceFailed, NotReady, Refused, TooLarge
from service.core.manifest import ArtifactError, Manifest
from service.core.request_context import RequestContext
from service.core.tensors import Array, Tensors
from service.core.turns import Turns, pause
from service.web.asgi import JSON
from service.web.body import Bodies
from service.web.compression import compress
from service.web.errors import InvalidParameter, Malformed, ModelNotFound
from service.web.openai.schemas import EmbeddingsRequest, is_embedding
from service.web.request_cycle import RequestCycle
from service.web.strict_json import ValueLimit, parse_json

PREFIX: Final = "/v1/"
PATH: Final = "/v1/embeddings"
NOT_OF_TEXTS: Final = (
    "the model is an embedding, says its manifest, but nothing makes its inputs of a text: "
    "it must take texts itself"
)

_TOKENS: Final = "tokens"
"""The output with the number of tokens of each text, if the model has it."""
_COMPRESSIBLE_BYTES: Final = 1024
_VALUES_AT_ONCE: Final = 50_000
"""Numbers that are written as JSON before the event loop does what waits."""


class TextConverter(Protocol):
    """Makes the inputs of a model that does not take texts itself."""

    def check(self) -> None:
        """Check that it can.

        Raises:
            ArtifactError: it cannot.
        """

    async def infer(self, texts: Sequence[str], context: RequestContext) -> Tensors:
        """Run the model on what becomes of texts, row for row.

        Raises:
            Refused: a text cannot be converted; the error has its place.
        """


class Embeddings:
    """Answers the endpoint with the model of an engine.

    ``bodies`` reads the requests, ``values`` limits them, and ``turns`` has one large request at a
    time. ``texts``: converts them if the model does not take them itself; None if nothing does.
    """

    def __init__(
        self,
        engine: Engine,
        bodies: Bodies,
        values: ValueLimit,
        turns: Turns,
        texts: TextConverter | None,
    ) -> None:
        self._engine: Final = engine
        self._bodies: Final = bodies
        self._values: Final = values
        self._turns: Final = turns
        self._texts: Final = texts

    def check(self) -> None:
        """Check that texts can become the inputs of a model that is an embedding.

        Raises:
            ArtifactError: they cannot.
        """
        manifest = self._engine.manifest
        if not is_embedding(manifest) or manifest.takes_texts:
            return
        if self._texts is None:
            raise ArtifactError(f"{NOT_OF_TEXTS} (BYTES [-1])")
        self._texts.check()

    async def __call__(
        self, headers: dict[bytes, bytes], cycle: RequestCycle, max_texts: int
    ) -> None:
        """Answer a request. ``max_texts``: as many texts may be in it.

        Raises:
            ServiceError: the request is not answered with success.
        """
        body = await self._bodies.read(cycle, headers, self._bodies.json)
        if not body:
            raise Malformed("The body is empty.")
        if await self._values.check(body, len(body)):
            cycle.context.large = True
            async with self._turns.turn(cycle.context):
                request = _parse(body)
        else:
            request = _parse(body)
        manifest = self._engine.manifest
        vectors = next(spec for spec in manifest.outputs if spec.is_vector)
        size = vectors.shape[1]
        if request.model != manifest.name:
            raise ModelNotFound(
                f"There is no model with this name, the service has '{manifest.name}'."
            )
        if request.dimensions is not None and request.dimensions != size:
            raise InvalidParameter(
                f"This model has embeddings of {size} dimensions only.", "dimensions"
            )
        texts = [request.input] if isinstance(request.input, str) else request.input
        if len(texts) > max_texts:
            raise TooLarge(f"A request may have up to {max_texts} texts.")
        if manifest.takes_texts:
            outputs = await self._embed(manifest.inputs[0].name, texts, cycle.context)
        else:
            if self._texts is None:
                raise NotReady  # `check` has ended the start
            outputs = await self._texts.infer(texts, cycle.context)
        array = np.ascontiguousarray(outputs[vectors.name], dtype="<f4")
        if not np.isfinite(array).all():
            raise InferenceFailed from ValueError("an embedding has a value that is not finite")
        answer = await _write(array, _count(outputs), manifest, request.encoding_format)
        response_headers = [JSON]
        if len(answer) >= _COMPRESSIBLE_BYTES:
            response_headers.append((b"vary", b"accept-encoding"))
            answer, encoding = await compress(answer, headers.get(b"accept-encoding", b""))
            if encoding:
                response_headers.append((b"content-encoding", encoding))
        await cycle.respond(200, response_headers, answer)

    async def _embed(self, name: str, texts: Sequence[str], context: RequestContext) -> Tensors:
        """Run the model: on all texts together, or one by one if they may not share a batch."""
        rows = np.empty(len(texts), dtype=object)
        rows[:] = [text.encode() for text in texts]
        if self._engine.batched or len(rows) == 1:
            return await self._engine.infer({name: rows}, context)
        found = []
        for row in range(len(rows)):
            try:
                found.append(await self._engine.infer({name: rows[row : row + 1]}, context))
            except Refused as error:
                error.instance = row
                raise
        return {key: np.concatenate([each[key] for each in found]) for key in found[0]}


def _parse(body: bytes) -> EmbeddingsRequest:
    """Parse a request.

    Raises:
        Malformed: it is not JSON.
        InvalidParameter: it has a wrong value.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise Malformed("The body must be a JSON object.")
    given = document.get("input")
    if isinstance(given, list) and given and all(isinstance(each, int | list) for each in given):
        raise InvalidParameter("This model takes texts, not ids of tokens.", "input")
    try:
        return EmbeddingsRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        reason = "must be a text, or a list of texts" if name == "input" else first["msg"]
        missing = first["type"] == "missing"
        detail = "is required" if missing else reason
        raise InvalidParameter(f"'{name[:100]}': {detail}.", name[:100]) from None


def _count(outputs: Tensors) -> int:
    """Return how many tokens the model has read, 0 if it does not say."""
    tokens = outputs.get(_TOKENS)
    return int(tokens.sum()) if tokens is not None and tokens.dtype.kind in "iu" else 0


async def _write(array: Array, tokens: int, manifest: Manifest, encoding: str) -> bytes:
    """Write an answer as JSON. A long one leaves the event loop time for others."""
    rows_at_once = max(1, _VALUES_AT_ONCE // array.shape[1])
    pieces = []
    for index, row in enumerate(array):
        if index and index % rows_at_once == 0:
            await pause()
        vector: Any = base64.b64encode(row).decode("ascii") if encoding == "base64" else row
        item = {"object": "embedding", "index": index, "embedding": vector}
        pieces.append(orjson.dumps(item, option=orjson.OPT_SERIALIZE_NUMPY))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = orjson.dumps({"model": manifest.name, "usage": usage})
    return b'{"object":"list","data":[' + b",".join(pieces) + b"]," + rest[1:]
