"""`CORS`: what may be set, and where a registry says it."""

from __future__ import annotations

from typing import Any

import pytest

from rivet_ray import ALLOWED_PUBLIC_HEADERS, CORS, DefinitionError, Registry, setup
from rivet_ray.gateway import GatewaySettings
from rivet_ray.registry import merge, settings_of

APP = "https://app.example.com"


@pytest.mark.parametrize(
    "origin",
    [APP, "http://localhost:5173", "http://[::1]:3000", "*", [APP, "http://a"], {APP}, str.islower],
    ids=str,
)
def test_origins(origin: Any) -> None:
    cors = CORS(origin)
    assert cors.allows_credentials is (origin != "*")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"origin": "*", "credentials": True}, "exclude one another"),
        ({"origin": ["*"]}, "'*' stands alone"),
        ({"origin": [APP, "*"]}, "'*' stands alone"),
        ({"origin": "app.example.com"}, "is no origin"),
        ({"origin": f"{APP}/"}, "has a path"),
        ({"origin": f"{APP}/index.html"}, "has a path"),
        ({"origin": "https://App.example.com"}, "lower case"),
        ({"origin": "https://*.example.com"}, "as a function"),
        ({"origin": "null"}, "anybody's"),
        ({"origin": []}, "one origin, several"),
        ({"origin": None}, "one origin, several"),
        ({"origin": [7]}, "7 is no origin"),
        ({"allow_headers": "Authorization"}, "allow_headers is a list"),
        ({"allow_headers": ["*"]}, "allow_headers: '\\*' is no name"),
        ({"allow_headers": ["A\r\nB"]}, "is no name"),
        ({"expose_headers": ["A,B"]}, "expose_headers: 'A,B' is no name"),
        ({"allow_methods": ["get"]}, "allow_methods: 'get' is no name"),
        ({"max_age": -1}, "max_age"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_when_it_is_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        CORS(**{"origin": APP, **options})


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        CORS("*", credentials=True, allow_headers="x", max_age=-1)
    assert len(caught.value.faults) == 3


def test_the_headers_that_clients_need_are_always_allowed() -> None:
    cors = CORS(APP, allow_headers=["Authorization", *ALLOWED_PUBLIC_HEADERS])
    assert cors.headers == (*ALLOWED_PUBLIC_HEADERS, "Authorization")


def test_where_it_is_said() -> None:
    """To the server, in its settings, or of the registry; the first of these counts."""
    own, set_there, given = CORS(APP), CORS("http://b"), CORS("http://c")

    class App(Registry, cors=own):
        pass

    class Below(App):
        pass

    settings = GatewaySettings(max_in_flight=3, cors=set_there)
    assert settings_of(App) == GatewaySettings(cors=own)
    assert settings_of(Below).cors is own
    assert settings_of(App, settings) == settings
    assert settings_of(App, settings, given) == GatewaySettings(max_in_flight=3, cors=given)
    assert settings_of(setup(use={})).cors is None
    assert settings_of(setup(use={}, cors=own)).cors is own
    for server in (App.create_server(store="memory://"), App.create_server(cors=given)):
        (middleware,) = server.handler.user_middleware
        assert middleware.kwargs["cors"] is not None
    (middleware,) = setup(use={}).create_server().handler.user_middleware
    assert middleware.kwargs["cors"] is None


def test_registries_that_are_served_as_one() -> None:
    first, second = setup(use={}, cors=CORS(APP)), setup(use={}, cors=CORS("http://b"))
    assert merge([first, setup(use={})]).__cors__ == CORS(APP)
    assert merge([first, setup(use={}, cors=CORS(APP))]).__cors__ == CORS(APP)
    with pytest.raises(DefinitionError, match="CORS"):
        merge([first, second])
