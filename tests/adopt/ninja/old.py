"""The service as it was: Django Ninja, a model, and two routes."""

import django
import joblib
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup()

from ninja import NinjaAPI, Schema  # noqa: E402 - Ninja wants settings

api = NinjaAPI()
model = joblib.load("model.joblib")


class House(Schema):
    area: float
    rooms: float


@api.get("/v1/currency")
def currency(request: HttpRequest) -> dict[str, str]:
    return {"currency": "EUR"}


@api.post("/v1/price")
def price(request: HttpRequest, house: House) -> dict[str, float]:
    (found,) = model.predict([[house.area, house.rooms]])
    return {"price": round(float(found), 2)}


urlpatterns = [path("", api.urls)]
app = get_asgi_application()
