"""Callers for tests: who they are, without tokens or gateways."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

from rivet_ray.definition import Actor, ActorDefinition
from rivet_ray.protocol.caller import RequestInfo

ON_AUTH = "on_auth"


def unit_request(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    *,
    method: str = "POST",
    url: str = "http://localhost/registry/actors/actions/test",
    client: str | None = "127.0.0.1",
) -> RequestInfo:
    """A request for a unit test of a hook.

    auth = await Room.on_auth(unit_request({"Authorization": "Bearer x"}), None, frozenset())
    """
    if isinstance(headers, Mapping):
        headers = cast("Mapping[str, str]", headers).items()
    given = cast("Iterable[tuple[str, str]]", headers)
    return RequestInfo(method, url, [(name.lower(), value) for name, value in given], client)


@contextmanager
def override_auth(actor: type[Actor[Any, Any, Any, Any, Any]], auth: Any = None) -> Generator[None]:
    """In this block every caller of a gateway is let in as `auth`, whatever they send.

    An exception is raised instead: `override_auth(Room, Unauthorized())`. A
    function is called as `on_auth` would be, with request, params and intents.
    For a type without `on_auth` too. For the gateways of this process; the
    clients of `rivet(App)` never ask, see `Setup.client_as`.
    """

    def on_auth(cls: Any, request: Any, params: Any, intents: frozenset[str]) -> Any:
        raised = isinstance(auth, type) and issubclass(cast("type[object]", auth), BaseException)
        if raised or isinstance(auth, BaseException):
            raise cast("BaseException", auth)
        if callable(cast("object", auth)):
            return cast("Callable[..., Any]", auth)(request, params, intents)
        return auth

    definition: ActorDefinition = actor.__definition__
    hooks, own = definition.hooks, vars(actor).get(ON_AUTH)
    setattr(actor, ON_AUTH, classmethod(on_auth))
    definition.hooks = hooks | {ON_AUTH}
    try:
        yield
    finally:
        definition.hooks = hooks
        if own is None:
            delattr(actor, ON_AUTH)
        else:
            setattr(actor, ON_AUTH, own)
