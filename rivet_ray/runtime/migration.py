"""What older code has saved, brought into the form of this code by `Actor.migrate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from rivet_ray.definition.user_code import UserCodeFailed, call, described
from rivet_ray.protocol import values


class MigrationFailed(UserCodeFailed):
    """`migrate` raised, or returned what is no state; its text says which versions and field."""


def does_not_fit(version: int, error: Exception) -> MigrationFailed:
    """What `migrate` returned is no state of its class."""
    return MigrationFailed(
        f"what migrate made of state_version {version} does not fit the state: {described(error)}"
    )


def migrated(
    actor: type[Any], owner: object, fields: Mapping[str, bytes], version: int
) -> dict[str, bytes]:
    """The saved fields as `migrate` returns them; what it leaves keeps its very bytes.

    Raises MigrationFailed, which names the field; nothing is changed then.
    """
    target = actor.state_version
    what = f"migrate from state_version {version} to {target}"
    try:
        raw: Any = call(
            owner,
            actor.migrate,
            {name: values.decode(data) for name, data in fields.items()},
            version,
        )
    except Exception as error:
        raise MigrationFailed(f"{what} failed: {described(error)}") from error
    if not isinstance(raw, dict):
        raise MigrationFailed(
            f"{what} returned {type(raw).__name__}: return the dict of the fields"
        )
    found: dict[str, bytes] = {}
    for name, value in cast("dict[Any, Any]", raw).items():
        if not isinstance(name, str):
            raise MigrationFailed(f"{what} returned the key {name!r}: names of fields are texts")
        try:
            data = call(owner, values.encode, value)
        except Exception as error:
            raise MigrationFailed(
                f"{what} returned what cannot be saved in state.{name}: {described(error)}"
            ) from error
        before = fields.get(name)
        if before is not None and values.encode(values.decode(before)) == data:
            data = before
        found[name] = data
    return found
