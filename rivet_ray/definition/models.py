"""Fields of pydantic models that pydantic does not write as they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast, get_args

import msgspec

from rivet_ray.protocol import values


def secret_fields(models: Iterable[type[Any]]) -> list[str]:
    """Return the fields of these models, and of those in them, that hold a secret.

    pydantic writes a secret as `**********`, so it would neither be saved nor sent.
    """
    secret: Any = getattr(sys.modules.get("pydantic.types"), "_SecretBase", ())
    return [
        f"{model.__qualname__}.{name}"
        for model in _with_inner(models)
        for name, field in model.model_fields.items()
        if any(isinstance(part, type) and issubclass(part, secret) for part in _parts(field))
    ]


def excluded_fields(models: Iterable[type[Any]]) -> list[str]:
    """Return the fields of these models, and of those in them, that pydantic leaves out."""
    return [
        f"{model.__qualname__}.{name}"
        for model in _with_inner(models)
        for name, field in model.model_fields.items()
        if field.exclude
    ]


def custom_types(info: Any, seen: set[int] | None = None) -> list[type[Any]]:
    """Return the types that msgspec leaves to hooks, pydantic models among them."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return []
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return [info.cls]
    if isinstance(info, (list, tuple)):
        items = cast("Iterable[Any]", info)
        return [kind for item in items for kind in custom_types(item, seen)]
    if isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)):
        return [
            kind
            for name in type(info).__struct_fields__
            if name not in ("cls", "default")
            for kind in custom_types(getattr(info, name), seen)
        ]
    return []


def _with_inner(models: Iterable[type[Any]]) -> Iterator[Any]:
    waiting = [model for model in models if values.is_pydantic_model(model)]
    seen: set[type[Any]] = set()
    while waiting:
        model: Any = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            waiting += [part for part in _parts(field) if values.is_pydantic_model(part)]


def _parts(field: Any) -> list[Any]:
    """The annotation of a field, and all that stands in its brackets."""
    found = [field.annotation]
    for part in found:
        found += [inner for inner in get_args(part) if inner not in found]
    return found
