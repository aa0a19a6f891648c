"""The OpenAPI 3.1 document of a registry: every action that a caller may use.

All actors share the wire path `/actors/actions/{action}`. OpenAPI tells
operations apart by path, so there is one path for each action's name, with the
name written out, which is what is really called. Actor types whose actions have
the same name share its operation: the query says which one is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.compiled import ActionDefinition
from rivet_ray.gateway.connection_operations import (
    CONNECTION_COMPONENTS,
    connection_paths,
    raw_paths,
)
from rivet_ray.gateway.operations import (
    BASE_COMPONENTS,
    ERROR_REFERENCES,
    ERRORS,
    PARAMETERS,
    fixed_paths,
    query_parameter,
)
from rivet_ray.gateway.schemas import Schema, Schemas, default_of


@dataclass(frozen=True)
class Described:
    """One action of one actor type."""

    actor: str
    definition: ActionDefinition
    arguments: Schema
    result: Schema
    input: Schema

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.definition.function.__doc__ or "")


def openapi_document(definitions: Mapping[str, ActorDefinition], version: str) -> Schema:
    """The document. Its servers are relative to where it is served."""
    schemas = Schemas()
    by_action: dict[str, list[Described]] = {}
    inputs = {name: schemas.of(one.types["Input"], "validation") for name, one in _all(definitions)}
    for actor, definition in _all(definitions):
        for name, action in definition.actions.items():
            # A slash, even when it is escaped, parts the path: over HTTP there is no way there.
            if not action.private and "/" not in name:
                described = Described(
                    actor,
                    action,
                    _arguments(schemas, action),
                    _result(schemas, action),
                    inputs[actor],
                )
                by_action.setdefault(name, []).append(described)
    events = _events(schemas, definitions)
    components = schemas.describe()
    fetched, socketed = (
        {name: inputs[name] for name, one in _all(definitions) if hook in one.hooks}
        for hook in ("on_fetch", "on_websocket")
    )
    paths: dict[str, Any] = {
        **fixed_paths(inputs),
        **connection_paths(inputs),
        **raw_paths(fetched, socketed),
    }
    for name, found in sorted(by_action.items()):
        paths[f"/actors/actions/{quote(name, safe='')}"] = {"post": _operation(name, found)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rivet_ray actors",
            "version": version,
            "description": _INTRODUCTION,
        },
        "servers": [{"url": "."}],
        "tags": [
            {"name": name, "description": inspect.getdoc(one.actor) or f"Actors of type {name}."}
            for name, one in _all(definitions)
        ],
        "paths": paths,
        "components": {
            "schemas": {**components, **BASE_COMPONENTS, **CONNECTION_COMPONENTS},
            "parameters": PARAMETERS,
            "responses": ERRORS,
        },
        "x-rivet-events": events,
    }


_INTRODUCTION = """\
The actions of this server's actors. `X-RivetKit-Query` says which actor is meant; the
actions of one name share a path. Every error has the body `{c, m, md}`, a code, a message
and what the application adds, and `X-RivetKit-Outcome` says what is known of its effect:
`not_started`, `took_effect` or `unknown`. Events travel on connections;
`x-rivet-events` holds, for each actor type, the arguments of its events."""


def _all(definitions: Mapping[str, ActorDefinition]) -> Iterable[tuple[str, ActorDefinition]]:
    return definitions.items()


def _arguments(schemas: Schemas, action: ActionDefinition) -> Schema:
    """`[…]`: the parameters by position."""
    arguments = action.arguments
    items: list[Schema] = []
    for name, kind in zip(arguments.names, arguments.kinds, strict=True):
        default = arguments.signature.parameters[name].default
        known = {} if default is inspect.Parameter.empty else default_of(default)
        items.append(schemas.of(kind, "validation", title=name, **known))
    schema: Schema = {"type": "array", "minItems": arguments.required}
    if items:
        schema["prefixItems"] = items
    if arguments.rest is None:
        schema["maxItems"] = len(items)
    else:
        title = f"*{arguments.rest_name}"
        schema["items"] = schemas.of(arguments.rest_kind, "validation", title=title)
    return schema


def _result(schemas: Schemas, action: ActionDefinition) -> Schema:
    """`{o: …}`, or `{}` where nothing is returned."""
    if action.returns_nothing:
        return {"type": "object", "maxProperties": 0}
    output = schemas.of(action.returns, "serialization")
    # An action that is not annotated may return nothing at all.
    required = [] if action.returns is Any else ["o"]
    return {"type": "object", "properties": {"o": output}, "required": required}


def _events(
    schemas: Schemas, definitions: Mapping[str, ActorDefinition]
) -> dict[str, dict[str, Schema]]:
    return {
        actor: {
            name: {
                "type": "array",
                "prefixItems": [schemas.of(kind, "serialization") for kind in event.payload],
            }
            if event.payload
            else {"type": "array", "maxItems": 0}
            for name, event in definition.events.items()
        }
        for actor, definition in _all(definitions)
    }


def _operation(name: str, found: list[Described]) -> Schema:
    docs = [item.doc for item in found]
    summary = next((doc.partition("\n")[0] for doc in docs if doc), name)
    if len(found) == 1:
        description = docs[0]
    else:
        description = "\n\n".join(f"**{item.actor}**: {item.doc}" for item in found)
    body = {
        "type": "object",
        "properties": {"a": _any_of([item.arguments for item in found])},
        "required": ["a"],
    }
    return {
        "operationId": f"action.{name}",
        "tags": [item.actor for item in found],
        "summary": summary,
        "description": description,
        "parameters": [
            query_parameter({item.actor: item.input for item in found}),
            *({"$ref": f"#/components/parameters/{parameter}"} for parameter in PARAMETERS),
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}},
        },
        "responses": {
            "200": {
                "description": "What the action returned.",
                "content": {
                    "application/json": {"schema": _any_of([item.result for item in found])},
                },
            },
            **ERROR_REFERENCES,
        },
    }


def _any_of(schemas: list[Schema]) -> Schema:
    """Not oneOf: the same arguments may well fit the actions of two types."""
    different: list[Schema] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return different[0] if len(different) == 1 else {"anyOf": different}
