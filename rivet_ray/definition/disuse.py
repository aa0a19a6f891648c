"""`destroy_after` of an actor class."""

from __future__ import annotations

from datetime import timedelta


def destroy_after_of(value: object, faults: list[str]) -> float | None:
    """The setting in seconds; None for never. What is wrong with it is added to `faults`."""
    if value is None:
        return None
    if not isinstance(value, timedelta) or value <= timedelta():
        faults.append(
            "destroy_after must be a timedelta above zero, such as timedelta(days=30); "
            "leave it out, or set it to None, to keep actors until they are destroyed"
        )
        return None
    return value.total_seconds()
