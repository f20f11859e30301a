"""The typed endpoint without its framework: its schemas, and a prediction for a request."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service import model
from service.config import Settings
from service.engine import Engine
from service.errors import InvalidTensors, InvalidValues, Malformed, TooLarge
from service.model import Instance, Prediction
from service.payload import check_json
from service.tensors import TensorSpec, check_inputs

PATH: Final = "/predict"


class ModelInfo(BaseModel):
    """The model that made a prediction."""

    name: str = Field(description="Name of the model")
    version: str = Field(description="Version of the model")


class PredictRequest(BaseModel):
    """Instances to predict."""

    model_config = ConfigDict(extra="forbid")

    instances: list[Instance] = Field(
        min_length=1, description="What to predict, one prediction for each"
    )


class PredictResponse(BaseModel):
    """One prediction for each instance, in their order."""

    predictions: list[Prediction] = Field(description="The predictions, in the instances' order")
    model: ModelInfo = Field(description="The model that made them")


def parse(body: bytes, settings: Settings) -> PredictRequest:
    """Read a request from its JSON.

    Raises:
        Malformed: it is not JSON, or has no single meaning.
        InvalidValues: it does not follow the schema; every wrong field is listed.
        TooLarge: it has more instances than the settings allow.
    """
    check_json(body, settings.max_json_depth)
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error) from None
    if len(request.instances) > settings.max_instances:
        raise TooLarge(f"A request may have {settings.max_instances} instances at most.")
    return request


async def predict(engine: Engine, request: PredictRequest) -> PredictResponse:
    """Predict the instances of a request."""
    outputs = await engine.infer(model.to_tensors(request.instances))
    manifest = engine.manifest
    return PredictResponse(
        predictions=model.to_predictions(outputs),
        model=ModelInfo(name=manifest.name, version=manifest.version),
    )


def check_model(inputs: tuple[TensorSpec, ...]) -> None:
    """Check with the schema's own examples that ``model.py`` makes the tensors the model takes.

    Raises:
        InvalidTensors: it does not.
    """
    examples = Instance.model_json_schema().get("examples", [])
    if not examples:
        return
    instances = [Instance.model_validate(example) for example in examples]
    try:
        check_inputs(inputs, model.to_tensors(instances))
    except InvalidTensors as error:
        raise InvalidTensors(
            f"model.py and the model's manifest disagree: {error.detail} Change one of them, or "
            "set SERVICE_TYPED_ENDPOINT=false to serve the model without /predict."
        ) from None


def _explain(error: ValidationError) -> Malformed | InvalidValues:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return Malformed(f"The body is not valid JSON: {errors[0]['msg']}.")
    return InvalidValues(
        [(".".join(str(part) for part in item["loc"]), item["msg"]) for item in errors]
    )
