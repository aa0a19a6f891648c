"""Dates as JavaScript writes them: `2024-01-02T03:04:05.000Z`."""

from __future__ import annotations

import datetime
from typing import Any, cast

_EXTENSIONS = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")
"""The first bytes of every date in msgpack."""


def may_have_dates(data: bytes) -> bool:
    """Whether msgpack may hold a date; other bytes may look like one."""
    return any(extension in data for extension in _EXTENSIONS)


def written(value: Any) -> Any:
    """A plain value with its dates as texts."""
    if isinstance(value, datetime.datetime):
        return _text(value)
    if isinstance(value, list):
        return [written(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return {written(name): written(member) for name, member in members}
    return value


def _text(moment: datetime.datetime) -> str:
    """Three digits of a second, or six where three are not enough."""
    exact = moment.microsecond % 1_000 == 0
    text = moment.isoformat(timespec="milliseconds" if exact else "microseconds")
    return text.replace("+00:00", "Z")
