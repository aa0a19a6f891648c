"""Which names of actions, events and actor types every way to them can carry."""

from __future__ import annotations

FOLDED = (".", "..")
"""Segments of a path that clients and proxies take out."""


def name_fault(name: str) -> str | None:
    """Why a name cannot be used anywhere, or None."""
    if not name:
        return "a name cannot be empty"
    if any(letter < " " or letter == "\x7f" for letter in name):
        return f"{name!r} has a control character"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return f"{name!r} has half of a surrogate pair"
    return None


def action_name_fault(name: str) -> str | None:
    """Why a name cannot be that of an action, which is a segment of a path over HTTP."""
    if name in FOLDED:
        return f"{name!r} means another place in a URL, so it cannot be called over HTTP"
    if "/" in name or "\\" in name:
        return f"{name!r} has a slash, so it cannot be called over HTTP; use a dot instead"
    return name_fault(name)
