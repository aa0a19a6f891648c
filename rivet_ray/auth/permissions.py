"""What a known caller may do. Both checks raise Forbidden and say what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from rivet_ray.auth.credentials import Reason, forbidden, headers_named
from rivet_ray.definition import Request


def require_scopes(auth: Any, *needed: str) -> None:
    """Raise Forbidden unless `auth` has every one of the scopes.

    `auth` is a mapping such as the claims of a token, and its scopes are all of
    `scope` (words in one string, as OAuth has it), `scopes` and `permissions`
    (lists or strings).
    """
    granted: set[str] = set()
    none: Mapping[str, Any] = {}
    claims = cast("Mapping[str, Any]", auth) if isinstance(auth, Mapping) else none
    for name in ("scope", "scopes", "permissions"):
        granted.update(_words(claims.get(name)))
    missing = sorted(set(needed) - granted)
    if missing:
        said = ", ".join(missing)
        raise forbidden(Reason.MISSING_SCOPE, f"This needs the scope {said}.", missing=missing)


def _words(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", value)
        return [item for item in items if isinstance(item, str)]
    return ()


def require_origin(request: Request, *origins: str) -> None:
    """Raise Forbidden for a request that a browser sent for a page of another origin.

    For actors that trust fewer pages than the gateway, which refuses the origins that
    its CORS does not admit on every transport. It matters where a cookie proves who somebody
    is: a browser adds cookies to the WebSockets of every page. A request without `Origin`
    passes, because no browser opens a WebSocket without one.
    """
    for origin in headers_named(request, "origin"):
        if origin not in origins:
            raise forbidden(Reason.WRONG_ORIGIN, "Pages of this origin may not do this.")
