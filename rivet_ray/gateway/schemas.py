"""JSON Schema of the types of a registry, under names that are unique in one document."""

from __future__ import annotations

import json
from typing import Any, ForwardRef, Literal, cast

import msgspec

from rivet_ray.protocol import values

Direction = Literal["validation", "serialization"]
"""Whether values of a type are read from the caller, or written to it."""
DIRECTIONS: tuple[Direction, ...] = ("validation", "serialization")
Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"


class Schemas:
    """Collects types first and describes them together, so that their names do not clash.

    msgspec describes everything but pydantic models, and pydantic those.
    """

    def __init__(self) -> None:
        self._wanted: list[tuple[Any, Direction, Schema]] = []

    def of(self, kind: Any, direction: Direction, **known: Any) -> Schema:
        """The schema of a type: `known` now, and all of it after `describe`."""
        schema: Schema = dict(known)
        self._wanted.append((Any if isinstance(kind, ForwardRef) else kind, direction, schema))
        return schema

    def describe(self) -> dict[str, Schema]:
        """Fill in every schema; what they refer to, by name."""
        models: dict[tuple[type[Any], Direction], Schema] = {}
        components: dict[str, Schema] = {}
        # Twice: the first time finds the models, whose references the second puts in.
        for direction in DIRECTIONS:
            components.update(self._make(direction, models, fill=False))
        described = _describe_models(models, set(components))
        for direction in DIRECTIONS:
            components.update(self._make(direction, models, fill=True))
        return components | described

    def _make(
        self,
        direction: Direction,
        models: dict[tuple[type[Any], Direction], Schema],
        *,
        fill: bool,
    ) -> dict[str, Schema]:
        def custom(kind: type[Any]) -> Schema:
            if not values.is_pydantic_model(kind):
                raise NotImplementedError
            # Not empty, which msgspec takes for "cannot be described".
            return models.setdefault((kind, direction), {"$ref": ""})

        wanted = [item for item in self._wanted if item[1] == direction]
        schemas, components = msgspec.json.schema_components(
            [kind for kind, _, _ in wanted], schema_hook=custom, ref_template=REFERENCE
        )
        if fill:
            for (_, _, schema), found in zip(wanted, schemas, strict=True):
                # What is known, such as an argument's own name, comes before the type's.
                known = dict(schema)
                schema.update({**found, **known})
        return components


def _describe_models(
    models: dict[tuple[type[Any], Direction], Schema], taken: set[str]
) -> dict[str, Schema]:
    """Fill in the references to pydantic models; the definitions that they need."""
    if not models:
        return {}
    from pydantic.json_schema import models_json_schema

    plain, found = models_json_schema(list(models), ref_template="{model}")
    clash = taken & set(found.get("$defs", {}))
    names = {name: f"{name}.model" if name in clash else name for name in found.get("$defs", {})}
    for key, schema in plain.items():
        models[key].update(_renamed(schema, names))
    return {names[name]: _renamed(schema, names) for name, schema in found["$defs"].items()}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, names) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    return {
        key: REFERENCE.format(name=names.get(item, item))
        if key == "$ref" and isinstance(item, str)
        else _renamed(item, names)
        for key, item in given.items()
    }


def default_of(value: Any) -> Schema:
    """`{"default": …}`, or nothing where JSON has no form for the value."""
    try:
        text = msgspec.json.encode(value, enc_hook=values.encode_custom)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return {}
    return {"default": json.loads(text)}
