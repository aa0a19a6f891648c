"""The parts of the OpenAPI document that are the same for every registry."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from rivet_ray.errors import InternalError, PublicError
from rivet_ray.gateway.negotiate import MAX_KEY
from rivet_ray.gateway.schemas import Schema
from rivet_ray.ids import MAX_KEY_PART
from rivet_ray.protocol import v0

PARAMETERS: dict[str, Schema] = {
    "Encoding": {
        "name": "X-RivetKit-Encoding",
        "in": "header",
        "required": True,
        "description": "How body and answer are written. This document describes `json`; with "
        "`cbor` the same values are CBOR, as `application/octet-stream`. A client that reads "
        f"integers beyond 2^53 as they are also sends `{v0.INTEGERS_HEADER}: {v0.EXACT}`; for "
        "others an answer with one is refused as `inexact_integer`.",
        "schema": {"type": "string", "enum": ["json"], "default": "json"},
    },
    "ConnParams": {
        "name": "X-RivetKit-Conn-Params",
        "in": "header",
        "description": "Parameters of the connection, as JSON: what `on_auth` and hooks get.",
        "content": {"application/json": {"schema": True}},
    },
    "IdempotencyKey": {
        "name": v0.KEY_HEADER,
        "in": "header",
        "description": "Calls of one caller with the same key have one effect and one answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    },
}
"""Of every action, beside the query."""

_OUTCOME: Schema = {
    v0.OUTCOME_HEADER: {
        "description": "What is known of the effect.",
        "schema": {"type": "string", "enum": ["not_started", "took_effect", "unknown"]},
    }
}

_CHALLENGE: Schema = {
    "WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}
}

BASE_COMPONENTS: dict[str, Schema] = {
    "rivet.Error": {
        "type": "object",
        "description": "An error, as every route answers it.",
        "properties": {
            "c": {"type": "string", "description": "The code."},
            "m": {"type": "string", "description": "The message, for people."},
            "md": {"description": "What the application adds."},
        },
        "required": ["c", "m"],
    },
    "rivet.MissingHeaders": {
        "type": "object",
        "description": "Required headers are not there.",
        "properties": {
            "success": {"const": False},
            "error": {
                "type": "object",
                "properties": {
                    "name": {"const": "ZodError"},
                    "issues": {"type": "array", "items": {"type": "object"}},
                },
                "required": ["name", "issues"],
            },
        },
        "required": ["success", "error"],
    },
}

_ERROR: Schema = {"$ref": "#/components/schemas/rivet.Error"}


def _codes() -> dict[int, list[str]]:
    """The codes of our errors by HTTP status."""
    found: dict[int, list[str]] = {InternalError.status: [InternalError.code]}
    kinds: list[type[PublicError]] = [PublicError]
    while kinds:
        kind = kinds.pop()
        kinds += [one for one in kind.__subclasses__() if one.__module__ == PublicError.__module__]
        if kind is not PublicError and kind.code not in found.setdefault(kind.status, []):
            found[kind.status].append(kind.code)
    found.setdefault(413, []).append("message_too_long")
    return found


def _error(status: int, codes: list[str]) -> Schema:
    content: Schema = {
        # Not application/json: the label is the documented dialect's.
        "text/plain": {"schema": _ERROR},
    }
    if status == 400:
        content["application/json"] = {
            "schema": {"$ref": "#/components/schemas/rivet.MissingHeaders"}
        }
    named = ", ".join(f"`{code}`" for code in sorted(codes))
    headers = _OUTCOME
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {**_OUTCOME, **_CHALLENGE}
    own = ", or a code of the application" if status == 400 else ""
    return {
        "description": f"{HTTPStatus(status).phrase}: {named}{own}.",
        "headers": headers,
        "content": content,
    }


ERRORS: dict[str, Schema] = {
    str(status): _error(status, codes) for status, codes in sorted(_codes().items())
}
"""By HTTP status. An application's error may have another status, if its class says so."""

ERROR_REFERENCES: dict[str, Schema] = {
    status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS
}
ENCODED_WITH_PARAMS: list[Schema] = [
    {"$ref": f"#/components/parameters/{name}"} for name in ("Encoding", "ConnParams")
]


def query_parameter(inputs: Mapping[str, Schema]) -> Schema:
    """`X-RivetKit-Query`: one of the forms, with the actor types that it may name."""
    name: Schema = {"type": "string", "enum": sorted(inputs)}
    key: Schema = {
        "type": "array",
        "items": {"type": "string", "maxLength": MAX_KEY_PART},
    }
    different: list[Schema] = []
    for schema in inputs.values():
        if schema not in different:
            different.append(schema)
    creating: Schema = {
        "name": name,
        "key": key,
        "input": different[0] if len(different) == 1 else {"anyOf": different},
        "region": {"type": ["string", "null"]},
    }
    forms: dict[str, tuple[Schema, list[str]]] = {
        "getOrCreateForKey": (creating, ["name", "key"]),
        "getForKey": ({"name": name, "key": key}, ["name", "key"]),
        "create": (creating, ["name", "key"]),
        "getForId": ({"actorId": {"type": "string"}}, ["actorId"]),
    }
    first = next(iter(sorted(inputs)), "actor")
    return {
        "name": "X-RivetKit-Query",
        "in": "header",
        "required": True,
        "description": "Which actor is meant, as JSON; what is not ASCII as `\\u` escapes.",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "title": form,
                            "properties": {
                                form: {
                                    "type": "object",
                                    "properties": properties,
                                    "required": required,
                                }
                            },
                            "required": [form],
                            "additionalProperties": False,
                        }
                        for form, (properties, required) in forms.items()
                    ]
                },
                "example": {"getOrCreateForKey": {"name": first, "key": ["demo"]}},
            }
        },
    }


def fixed_paths(inputs: Mapping[str, Schema]) -> dict[str, Any]:
    """The routes that serve every actor type alike, beside those of connections."""
    resolved: Schema = {
        "type": "object",
        "properties": {"i": {"type": "string", "description": "The actor's id."}},
        "required": ["i"],
    }
    return {
        "/health": {"get": _health()},
        "/metadata": {"get": _metadata()},
        "/actors/resolve": {
            "post": {
                "operationId": "resolve",
                "summary": "The id of the actor that a query means, created where it says so",
                "parameters": [query_parameter(inputs), *ENCODED_WITH_PARAMS],
                "responses": {
                    "200": {
                        "description": "The id.",
                        "content": {
                            "text/plain": {"schema": resolved},
                        },
                    },
                    **ERROR_REFERENCES,
                },
            }
        },
    }


def _health() -> Schema:
    body: Schema = {
        "type": "object",
        "properties": {
            "status": {"enum": ["ok", "not_started", "unavailable"]},
        },
        "required": ["status"],
    }
    content = {"application/json": {"schema": body}}
    return {
        "operationId": "health",
        "summary": "Whether this server can be given requests; for load balancers",
        "responses": {
            "200": {"description": "It is started, and its store answers.", "content": content},
            "503": {
                "description": "It is not started, or its store is silent.",
                "content": content,
            },
        },
    }


COUNTS = (
    *("slowConsumers", "connectionsRefused", "silentConnections", "headsTooLong"),
    *("messagesTooLong", "tooManyItems", "leftOutEvents", "blockedLoop"),
    *(HELD := ("heldBytes", "mostHeldBytes")),
)
_COUNT: Schema = {"type": "integer", "minimum": 0}
_REFUSED: Schema = {
    "type": "object",
    "description": "How often something was not held in memory, by the name of the bound.",
    "additionalProperties": _COUNT,
}


def _metadata() -> Schema:
    body: Schema = {
        "type": "object",
        "properties": {
            "runtime": {"const": "rivetkit"},
            "version": {"type": "string"},
            "actorNames": {"type": "object", "additionalProperties": {"type": "object"}},
            "gateway": {
                "type": "object",
                "description": "Counts of the answering process since it began.",
                "properties": {**dict.fromkeys(COUNTS, _COUNT), "refused": _REFUSED},
                "required": [*COUNTS, "refused"],
            },
            "host": {
                "type": "object",
                "description": "Of the host in the same process, where there is one.",
                "properties": {**dict.fromkeys(HELD, _COUNT), "refused": _REFUSED},
                "required": [*HELD, "refused"],
            },
            "unanswered": {
                "type": "object",
                "description": "Of calls that wait for hosts elsewhere, where they are.",
                "properties": {**dict.fromkeys(HELD, _COUNT), "refused": _REFUSED},
                "required": [*HELD, "refused"],
            },
        },
        "required": ["runtime", "version", "actorNames", "gateway"],
    }
    return {
        "operationId": "metadata",
        "summary": "What runs here, and the names of the actor types",
        "responses": {
            "200": {"description": "It.", "content": {"application/json": {"schema": body}}}
        },
    }
