"""The application of this process, for servers to import."""

from service.config import load_settings
from service.engine import Engine
from service.front import Front
from service.own_settings import own_settings
from service.telemetry import configure_logging

settings = load_settings()
own_settings()
configure_logging(settings)
app = Front(settings, Engine(settings))
