"""`/openapi.json`: a valid document, and a server that does what it says."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_actors import Warehouse
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route, WebSocketRoute
from threaded_server import threaded_server

from rivet_ray import Registry
from rivet_ray.gateway import GatewaySettings
from rivet_ray.gateway.raw_http import METHODS


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with threaded_server(Warehouse.create_server(store="memory://").handler) as address:
        yield address


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return Warehouse.create_server(store="memory://").handler.openapi()


def body(document: dict[str, Any], action: str) -> dict[str, Any]:
    found = document["paths"][f"/actors/actions/{action}"]["post"]["requestBody"]
    arguments: dict[str, Any] = found["content"]["application/json"]["schema"]["properties"]["a"]
    return arguments


def output(document: dict[str, Any], action: str) -> dict[str, Any]:
    answer = document["paths"][f"/actors/actions/{action}"]["post"]["responses"]["200"]
    result: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return result


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document, cls=OpenAPIV31SpecValidator)


def test_it_is_made_once() -> None:
    handler = Warehouse.create_server(store="memory://").handler
    assert handler.openapi() is handler.openapi()


def test_a_registry_without_actors_has_a_valid_document() -> None:
    class Empty(Registry):
        pass

    validate(Empty.create_server(store="memory://").handler.openapi(), cls=OpenAPIV31SpecValidator)


def test_every_action_that_callers_may_use_is_there(document: dict[str, Any]) -> None:
    prefix = "/actors/actions/"
    actions = {path.removeprefix(prefix) for path in document["paths"] if path.startswith(prefix)}
    assert actions == {
        *("add", "putBox", "mix", "when", "raw", "move_in", "measure", "clear", "anything", "look"),
        "odd%20name%20%7Bx%7D%3F",
    }
    assert "secret" not in json.dumps(document)


def test_every_route_is_there(document: dict[str, Any]) -> None:
    """Those of the gateway itself, but for its pages, each once."""
    routes = Warehouse.create_server(store="memory://").handler.router.routes
    known = {
        re.sub(r":path}", "}", route.path)
        for route in routes
        if isinstance(route, Route | WebSocketRoute) and not route.path.startswith("/registry")
    }
    pages = {"/", "/docs", "/openapi.json"}
    served = {path for path in known if not path.endswith("/")} - pages
    # An action is described under its name, and the raw routes with a path alone.
    served -= {"/actors/actions/{action}", "/actors/raw/http", "/actors/raw/websocket"}
    # Raw sockets are taken behind any path, as by the original; one is described.
    served -= {"/{_}/raw/websocket", "/{_}/raw/websocket/{path}"}
    described = {path for path in document["paths"] if "/actions/" not in path}
    assert described == served
    raw = document["paths"]["/actors/raw/http/{path}"]
    assert set(raw) - {"parameters"} == {method.lower() for method in METHODS}
    assert '"heap"' in json.dumps(raw)
    assert '"shelf"' not in json.dumps(raw), "it has no on_fetch"


def test_arguments_by_position(document: dict[str, Any]) -> None:
    assert body(document, "putBox") == {
        "type": "array",
        "minItems": 2,
        "maxItems": 3,
        "prefixItems": [
            {**reference("Box"), "title": "box"},
            {**reference("Colour"), "title": "colour"},
            {"enum": ["bottom", "top"], "title": "at", "default": "top"},
        ],
    }
    mixed = body(document, "mix")
    assert (mixed["minItems"], "maxItems" in mixed) == (1, False)
    assert mixed["items"] == {"type": "string", "title": "*names"}
    assert mixed["prefixItems"][1]["default"] is None
    assert output(document, "clear") == {"type": "object", "maxProperties": 0}
    assert output(document, "putBox")["properties"] == {"o": reference("Box")}
    assert output(document, "putBox")["required"] == ["o"]


def test_models_of_every_kind(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Point"]["properties"]["x"] == {"type": "integer", "default": 0}
    assert schemas["Point"]["description"] == "A place."
    label = schemas["Box"]["properties"]["label"]
    assert (label["maxLength"], label["description"]) == (20, "What is written on it")
    assert "topLeft" in schemas["Box"]["properties"]
    assert schemas["Colour"]["enum"] == ["blue", "red"]
    assert schemas["Options"]["properties"]["deep"] == {"type": "boolean"}
    assert "zipCode" in schemas["Address"]["properties"]
    assert schemas["Person"]["properties"]["address"]["anyOf"][0] == reference("Address")
    # A pydantic model and a dataclass of one name are two schemas.
    assert "latitude" in schemas["Point.model"]["properties"]
    where, to = body(document, "move_in")["prefixItems"][1:]
    assert (where["$ref"], to["$ref"]) == (
        reference("Point.model")["$ref"],
        reference("Point")["$ref"],
    )
    assert body(document, "when")["prefixItems"] == [
        {"type": "string", "title": "moment"},
        {"type": "string", "format": "uuid", "title": "who"},
    ]
    assert output(document, "raw")["properties"]["o"]["contentEncoding"] == "base64"
    assert body(document, "measure")["prefixItems"][0]["contentEncoding"] == "base64"


def test_actions_of_one_name(document: dict[str, Any]) -> None:
    operation = document["paths"]["/actors/actions/add"]["post"]
    assert operation["tags"] == ["shelf", "heap"]
    assert [len(one["prefixItems"]) for one in body(document, "add")["anyOf"]] == [1, 1]
    assert operation["summary"] == "Put more on the shelf."
    assert "**heap**: Throw something on the heap." in operation["description"]
    assert "At most a million." in operation["description"]
    query = json.dumps(operation["parameters"][0])
    assert '["heap", "shelf"]' in query
    assert '["locked"]' in json.dumps(document["paths"]["/actors/actions/look"])
    # The same on both: said once.
    assert "anyOf" not in body(document, "clear")


def test_headers_errors_and_events(document: dict[str, Any]) -> None:
    parameters = document["components"]["parameters"].values()
    assert {one["name"].lower() for one in parameters} == {
        "x-rivetkit-encoding",
        "x-rivetkit-conn-params",
        "idempotency-key",
    }
    responses = document["components"]["responses"]
    for status, code in {
        "400": "action_not_found",
        "403": "forbidden",
        "409": "idempotency_key_reused",
        "413": "message_too_long",
        "429": "too_many_idempotency_keys",
        "500": "internal_error",
        "503": "store_unavailable",
    }.items():
        assert f"`{code}`" in responses[status]["description"]
    challenged = [one for one in responses if "WWW-Authenticate" in responses[one]["headers"]]
    assert challenged == ["401"]
    events = document["x-rivet-events"]["shelf"]
    assert events["put"]["prefixItems"] == [reference("Box"), {"type": "integer"}]
    assert events["cleared"] == {"type": "array", "maxItems": 0}
    assert document["tags"][0] == {"name": "shelf", "description": "Things in rows."}


def test_it_is_served_at_both_places(url: str) -> None:
    first = httpx.get(f"{url}/openapi.json")
    assert first.headers["content-type"] == "application/json"
    assert first.json() == httpx.get(f"{url}/registry/openapi.json").json()
    for path in ("/docs", "/registry/docs"):
        page = httpx.get(url + path)
        assert page.headers["content-type"].startswith("text/html")
        assert "'openapi.json'" in page.text
        assert "'../openapi.json'" in httpx.get(f"{url}{path}/").text


def test_it_can_be_switched_off() -> None:
    server = Warehouse.create_server(
        store="memory://", settings=GatewaySettings(documentation=False)
    )
    with threaded_server(server.handler) as address:
        for path in ("/openapi.json", "/registry/openapi.json", "/docs"):
            assert httpx.get(address + path).status_code == 404


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@contextmanager
def connected(url: str) -> Iterator[dict[str, str]]:
    """What a client of an event stream shows when it posts messages."""
    query = json.dumps({"getOrCreateForKey": {"name": "shelf", "key": ["connected"]}})
    headers = {"X-RivetKit-Query": query, "X-RivetKit-Encoding": "json"}
    with httpx.stream("GET", f"{url}/actors/connect/sse", headers=headers, timeout=10) as stream:
        lines = stream.iter_lines()  # The stream ends with it.
        first = next(line for line in lines if line.startswith("data: "))
        init = json.loads(first.removeprefix("data: "))["b"]["i"]
        yield {
            "X-RivetKit-Actor": init["ai"],
            "X-RivetKit-Conn": init["ci"],
            "X-RivetKit-Conn-Token": init["ct"],
        }


def call_everything(url: str, examples: int) -> dict[str, Counter[int]]:
    """Call every operation with generated requests; how often each status came of which."""
    schema = schemathesis.openapi.from_url(f"{url}/registry/openapi.json")
    schema.config.max_stream_events = 1
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    with connected(url) as known:
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            def run(case: Any) -> None:
                told = statuses[case.operation.definition.raw["operationId"]]
                if case.path == "/actors/message" and told.total() % 2:
                    case.headers.update(known)
                response = case.call(base_url=f"{url}/registry", timeout=10)
                told[response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

            run()
    return statuses


def test_the_server_does_what_the_document_says(url: str) -> None:
    statuses = call_everything(url, 30)
    print({name: dict(found) for name, found in statuses.items()})
    assert sum(found.total() for found in statuses.values()) >= 200
    for operation in ("resolve", "connectEventStream", "message", "raw.get", "raw.options"):
        assert statuses[operation][200], operation
    assert sum(found[200] for found in statuses.values()) > 150


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_requests(url: str) -> None:
    statuses = call_everything(url, 1_000)
    print({name: dict(found) for name, found in statuses.items()})
    assert sum(found.total() for found in statuses.values()) >= 10_000
