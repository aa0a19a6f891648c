"""Actors beside Django views: `uvicorn examples.frameworks.with_django:application`.

Django has no lifespan and no mounts, so the ASGI application is parted here, as
it is in the `asgi.py` of a project.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from examples.counter import App

server = App.create_server()


async def increment(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"count": await server.client.counter.get_or_create(name).increment(1)})


async def count(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"count": await server.client.counter.get_or_create(name).get_count()})


def sign(proceed: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def signed(request: HttpRequest) -> HttpResponse:
        response = proceed(request)
        response["X-Application"] = "Django"
        return response

    return signed


urlpatterns = [path("increment/<str:name>", increment), path("count/<str:name>", count)]

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=[f"{__name__}.sign"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this example only",
)
django = get_asgi_application()


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Lifespan and `/registry` go to the actors, all else to Django."""
    if scope["type"] == "lifespan" or f"{scope['path']}/".startswith("/registry/"):
        await server.handler(scope, receive, send)
    else:
        await django(scope, receive, send)
