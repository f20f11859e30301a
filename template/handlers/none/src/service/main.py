"""The service, put together: settings, engine, application.

Every server runs ``service.main:app``, and so does ``uvicorn service.main:app``.
"""

from service import app as framework
from service import runtime
from service.core.engine import Engine
from service.core.turns import Turns
from service.interfaces import Framework, Runtime
from service.ops import metrics
from service.ops.logs import configure_logging
from service.ops.settings import Settings, load_settings
from service.settings import own_settings
from service.web.front import Front
from service.web.service_info import service_info


def create_app(
    settings: Settings, runtime: Runtime = runtime, framework: Framework = framework
) -> Front:
    """Make the application; its lifespan loads the model."""
    return Front(settings, Engine(settings, runtime), framework, Turns())


settings = load_settings()
own_settings()
configure_logging(settings)
metrics.record_build(service_info().distribution, service_info().version)
app = create_app(settings)
