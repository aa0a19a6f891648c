"""The routes of connections, and of raw requests and sockets, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rivet_ray.gateway.operations import ENCODED_WITH_PARAMS, ERROR_REFERENCES, query_parameter
from rivet_ray.gateway.schemas import Schema
from rivet_ray.protocol import v0

_ACTION_ID: Schema = {"type": "integer", "minimum": 0, "maximum": v0.MAX_ACTION_ID}
_ARGUMENTS: Schema = {"type": "array", "items": True}

_TO_SERVER: Schema = {
    "type": "object",
    "description": "What a client says: it calls an action, or it wants an event or no longer.",
    "properties": {
        "b": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {
                        "ar": {
                            "type": "object",
                            "properties": {
                                "i": {**_ACTION_ID, "description": "Comes back with the answer."},
                                "n": {"type": "string", "description": "The action."},
                                "a": _ARGUMENTS,
                            },
                            "required": ["i", "n", "a"],
                        }
                    },
                    "required": ["ar"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {
                        "sr": {
                            "type": "object",
                            "properties": {
                                "e": {"type": "string", "description": "The event."},
                                "s": {"type": "boolean"},
                            },
                            "required": ["e", "s"],
                        }
                    },
                    "required": ["sr"],
                    "additionalProperties": False,
                },
            ]
        }
    },
    "required": ["b"],
}
_INIT: Schema = {
    "type": "object",
    "properties": {
        "ai": {"type": "string", "description": "The actor's id."},
        "ci": {"type": "string", "description": "The connection's id."},
        "ct": {"type": "string", "description": "Its token."},
        "s": {"type": "integer"},
    },
    "required": ["ai", "ci", "ct"],
}
_ERROR_MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "c": {"type": "string"},
        "m": {"type": "string"},
        "md": True,
        "ai": {**_ACTION_ID, "description": "The action that failed; else the connection did."},
        "oc": {"type": "string", "enum": ["not_started", "took_effect", "unknown"]},
    },
    "required": ["c", "m"],
}
_ANSWER: Schema = {
    "type": "object",
    "properties": {"i": _ACTION_ID, "o": True},
    "required": ["i"],
}
_EVENT: Schema = {
    "type": "object",
    "properties": {"n": {"type": "string"}, "a": _ARGUMENTS, "s": {"type": "integer"}},
    "required": ["n", "a"],
}
_TO_CLIENT: Schema = {
    "type": "object",
    "description": "What the server says: the connection is open, an error, an answer, an event.",
    "properties": {
        "b": {
            "oneOf": [
                {"type": "object", "properties": {name: schema}, "required": [name]}
                for name, schema in {
                    "i": _INIT,
                    "e": _ERROR_MESSAGE,
                    "ar": _ANSWER,
                    "ev": _EVENT,
                }.items()
            ]
        }
    },
    "required": ["b"],
}
CONNECTION_COMPONENTS: dict[str, Schema] = {
    "rivet.ToServer": _TO_SERVER,
    "rivet.ToClient": _TO_CLIENT,
}


def connection_paths(inputs: Mapping[str, Schema]) -> dict[str, Any]:
    """Connections over both transports, and what the client of an event stream says."""
    return {
        "/actors/connect/websocket": {"get": _websocket()},
        "/actors/connect/sse": {"get": _event_stream(inputs)},
        "/actors/message": {"post": _message()},
    }


_NO_SOCKET: Schema = {
    "101": {"description": "The WebSocket is open."},
    "404": {
        "description": "The request does not ask for a WebSocket.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}


def _websocket() -> Schema:
    return {
        "operationId": "connect",
        "summary": "Open a connection: calls and events over one WebSocket",
        "description": "Subprotocols, in this order: `query.` and the query as JSON, "
        "`encoding.json` or `encoding.cbor`, `conn_params.` and the parameters as JSON where "
        "there are some, each after encodeURIComponent; `integers.exact` of a client that reads "
        "integers beyond 2^53 as they are; then `rivetkit`.\n\n"
        "The server's messages are `rivet.ToClient`, the first of them `{b: {i: …}}`; the "
        "client's are `rivet.ToServer`. Frames are text for json, binary for cbor.",
        "responses": _NO_SOCKET,
    }


def _event_stream(inputs: Mapping[str, Schema]) -> Schema:
    event: Schema = {
        "type": "object",
        "properties": {
            "event": {"type": "string", "enum": ["message", "close"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/rivet.ToClient"},
            },
        },
        "required": ["data"],
    }
    return {
        "operationId": "connectEventStream",
        "summary": "Open a connection: its events over one response, its calls by messages",
        "description": "Each event's data is one `rivet.ToClient`, the first `{b: {i: …}}`; of "
        "one who may not connect it is `{b: {e: …}}`, the only one. Before the server ends the "
        "stream it sends an event `close`, whose data is why. What the client says goes to "
        "`/actors/message`.",
        "parameters": [query_parameter(inputs), *ENCODED_WITH_PARAMS],
        "responses": {
            "200": {
                "description": "The stream, until one side ends it.",
                "content": {"text/event-stream": {"schema": event}},
            },
            "400": {"$ref": "#/components/responses/400"},
        },
    }


def _message() -> Schema:
    headers = {
        "X-RivetKit-Actor": "The actor's id, from the first event of the stream.",
        "X-RivetKit-Conn": "The connection's id, from there too.",
        "X-RivetKit-Conn-Token": "The connection's token: all that the sender has to show.",
    }
    return {
        "operationId": "message",
        "summary": "Say something on the connection of an event stream",
        "parameters": [
            *(
                {
                    "name": name,
                    "in": "header",
                    "required": True,
                    "description": text,
                    "schema": {"type": "string"},
                }
                for name, text in headers.items()
            ),
            {"$ref": "#/components/parameters/Encoding"},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/rivet.ToServer"}}
            },
        },
        "responses": {
            "200": {
                "description": "It is taken. What comes of it comes on the stream.",
                "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
            },
            **ERROR_REFERENCES,
        },
    }


RAW_METHODS = ("get", "post", "put", "delete", "patch", "head", "options")
_BODY: Schema = {"content": {"*/*": {"schema": True}}}


def raw_paths(fetched: Mapping[str, Schema], socketed: Mapping[str, Schema]) -> dict[str, Any]:
    """What actor types with `on_fetch` and `on_websocket` answer themselves.

    Both mappings hold the schemas of inputs; where one is empty there is no such path.
    """
    paths: dict[str, Any] = {}
    path: Schema = {
        "name": "path",
        "in": "path",
        "required": True,
        "description": "What the actor sees as its path; slashes in it are not escaped.",
        "schema": {"type": "string"},
    }
    if fetched:
        paths["/actors/raw/http/{path}"] = {
            "parameters": [
                path,
                query_parameter(fetched),
                {"$ref": "#/components/parameters/ConnParams"},
            ],
            **{method: _raw_http(method) for method in RAW_METHODS},
        }
    if socketed:
        paths["/actors/raw/websocket/{path}"] = {"get": _raw_websocket(path)}
    return paths


def _raw_http(method: str) -> Schema:
    operation: Schema = {
        "operationId": f"raw.{method}",
        "summary": "Whatever the actor's on_fetch answers",
        "description": "Method, body and headers are the actor's to read, its answer comes as it "
        "gave it. An error that is not its own has the form of all others, and the outcome in "
        "`X-RivetKit-Outcome`.",
        "responses": {"default": {"description": "What the actor answers."}},
    }
    if method not in ("get", "head"):
        operation["requestBody"] = _BODY
    if method != "head":
        operation["responses"]["default"].update(_BODY)
    return operation


def _raw_websocket(path: Schema) -> Schema:
    return {
        "operationId": "rawWebSocket",
        "summary": "A WebSocket for the actor's on_websocket",
        "description": "Subprotocols as those of `/actors/connect/websocket`, with "
        "`encoding.json`; the application's own stand behind `rivetkit`. Messages are what the "
        "actor makes of them.",
        "parameters": [path],
        "responses": _NO_SOCKET,
    }
