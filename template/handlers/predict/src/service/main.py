"""The service, put together: settings, engine, application.

Every server runs ``service.main:app``, and so does ``uvicorn service.main:app``.
"""

from service import app as framework
from service import predict, runtime
from service.core.engine import Engine
from service.core.predictor import Predictor
from service.core.resources import Resources
from service.interfaces import Framework, Runtime
from service.ops import metrics
from service.ops.logs import configure_logging
from service.ops.settings import Settings, load_settings
from service.predict import Instance, Prediction, to_predictions, to_tensors
from service.settings import own_settings
from service.web.predict_front import PredictFront
from service.web.predict_schema import PredictRequest, PredictResponse
from service.web.service_info import service_info


def create_app(
    settings: Settings, runtime: Runtime = runtime, framework: Framework = framework
) -> PredictFront:
    """Make the application; its lifespan loads the model."""
    engine = Engine(settings, runtime)
    resources = Resources(getattr(predict, "resources", None), engine.leave, settings.model_dir)
    predictor = Predictor(engine, Instance, resources.bind(to_tensors), to_predictions)
    return PredictFront(
        settings,
        engine,
        predictor,
        resources,
        framework,
        PredictRequest[Instance],
        PredictResponse[Prediction],
    )


settings = load_settings()
own_settings()
configure_logging(settings)
metrics.record_build(service_info().distribution, service_info().version)
app = create_app(settings)
