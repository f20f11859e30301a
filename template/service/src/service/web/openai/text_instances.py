"""Texts as instances of predict.py, for embeddings that take something else, such as token ids."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from service.core.errors import NotReady, Refused
from service.core.manifest import ArtifactError
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.core.tensors import Tensors
from service.web.openai.embeddings import NOT_OF_TEXTS


class TextInstances:
    """Runs the model on what predict.py makes of texts. ``is_on``: whether /predict exists."""

    def __init__(self, predictor: Predictor[Any, Any], *, is_on: bool) -> None:
        self._predictor: Final = predictor
        self._field: Final = _text_field(predictor.instance) if is_on else None
        """The field of an instance that takes the text, or None."""

    def check(self) -> None:
        """Check that instances can be made of texts.

        Raises:
            ArtifactError: they cannot.
        """
        if self._field is None:
            raise ArtifactError(
                f"{NOT_OF_TEXTS} (BYTES [-1]), or Instance in predict.py must have one required "
                "field, a str, and SERVICE_PREDICT_ENDPOINT be true"
            )

    async def infer(self, texts: Sequence[str], context: RequestContext) -> Tensors:
        """Run the model on texts, row for row.

        Raises:
            Refused: a text does not make a valid instance; the error says which.
        """
        if self._field is None:
            raise NotReady  # `check` has ended the start
        schema = self._predictor.instance
        instances = []
        for index, text in enumerate(texts):
            try:
                instances.append(schema.model_validate({self._field: text}, by_name=True))
            except ValidationError as error:
                reason = error.errors(include_url=False, include_input=False)[0]["msg"]
                raise Refused(reason, instance=index) from None
        return await self._predictor.with_context(context).infer(instances)


def _text_field(instance: type[BaseModel]) -> str | None:
    """Return the name of the one field that an instance must have, if that is a text."""
    required = [name for name, field in instance.model_fields.items() if field.is_required()]
    if len(required) != 1 or instance.model_fields[required[0]].annotation is not str:
        return None
    return required[0]
