"""Django that streams committed changes, in one file: ``uvicorn django_live:application``."""

import os

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY=os.environ.get("CLINIC_SECRET", "for development only"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
    DATABASES={"default": {"ENGINE": "veritydb.django", "NAME": "clinic.db"}},
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402  Django has to be set up before

from veritydb.django.events import event_stream  # noqa: E402  as above
from veritydb.sse import Role, TableRule  # noqa: E402  as above

WARD = Role(name="ward", tables={"patients": TableRule(columns=("id", "name", "ward"))})


def role(request):
    """Say what a request may see. A program asks ``request.user`` here; this one, the cookie that its page gave."""
    return WARD if request.get_signed_cookie("ward", default=None) else None


def page(request):
    """Answer with the page that listens."""
    with open(os.path.join(os.path.dirname(__file__), "plain.html"), encoding="utf-8") as file:
        response = HttpResponse(file.read().replace("live/events?", "events/?"))
    response.set_signed_cookie("ward", "A", httponly=True, samesite="Strict")
    return response


urlpatterns = [path("", page), path("events/", event_stream(role))]
application = get_asgi_application()
