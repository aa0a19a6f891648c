"""`CORS`: which pages of other origins may call, as a browser asks before it lets them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from rivet_ray.errors import DefinitionError
from rivet_ray.protocol.v0 import ALLOWED_PUBLIC_HEADERS

Verdict = bool | str | None
OriginFunction = Callable[[str], Verdict | Awaitable[Verdict]]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ANY = "*"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class CORS:
    """Cross-origin resource sharing of a registry.

        class App(Registry, cors=CORS(origin=["https://app.example.com"])): ...
        App.create_server(cors=CORS(origin=is_ours, allow_headers=["Authorization"]))

    A wrong setting raises DefinitionError, with every fault in it.
    """

    origin: str | Sequence[str] | OriginFunction
    """An origin, several, `*` for all, or a function, plain or `async`, from the
    page's origin to True, False, or the origin that may. A function that fails or
    takes over 5 s says no."""
    allow_methods: Sequence[str] = METHODS
    """HTTP methods that pages may use."""
    allow_headers: Sequence[str] = ()
    """Headers that pages may send beside ALLOWED_PUBLIC_HEADERS, which they always may."""
    credentials: bool | None = None
    """Whether pages may send cookies and the like, and read the answers. By default
    they may, unless `origin` is `*`. Clients in browsers ask for it."""
    max_age: int = 3600
    """Seconds for which a browser keeps the answer to its question."""
    expose_headers: Sequence[str] = ()
    """Headers of answers that pages may read, beside `X-RivetKit-Outcome`."""

    def __post_init__(self) -> None:
        faults = [
            *self._faults_of_origin(),
            *_faults_of_names("allow_methods", self.allow_methods, ALLOWED_METHOD),
            *_faults_of_names("allow_headers", self.allow_headers, ALLOWED_HEADER),
            *_faults_of_names("expose_headers", self.expose_headers, ALLOWED_HEADER),
        ]
        if self.credentials and self.origin == ANY:
            faults.append(
                'credentials=True and origin="*" exclude one another: browsers refuse that, '
                "since every page could act for its visitors; name the origins"
            )
        if self.max_age < 0:
            faults.append("max_age is a number of seconds, not negative")
        if faults:
            raise DefinitionError("CORS", faults)

    @property
    def any_origin(self) -> bool:
        return self.origin == ANY

    @property
    def allows_credentials(self) -> bool:
        return not self.any_origin if self.credentials is None else self.credentials

    @property
    def headers(self) -> tuple[str, ...]:
        """Every header that pages may send."""
        return tuple(dict.fromkeys((*ALLOWED_PUBLIC_HEADERS, *self.allow_headers)))

    def _faults_of_origin(self) -> list[str]:
        given = cast("object", self.origin)
        if callable(given) or given == ANY:
            return []
        origins = [given] if isinstance(given, str) else given
        if not isinstance(origins, (list, tuple, set, frozenset)) or not origins:
            return ["origin is one origin, several, '*' or a function"]
        found = [fault_of_origin(item) for item in cast("Sequence[object]", origins)]
        return [fault for fault in found if fault is not None]


ALLOWED_METHOD = re.compile(r"[A-Z]+")
ALLOWED_HEADER = re.compile(r"(?!\*$)" + _TOKEN.pattern)


def fault_of_origin(origin: object) -> str | None:
    """What is wrong with an origin, or None: a browser's `Origin` could never be equal to it."""
    if not isinstance(origin, str):
        return f"{origin!r} is no origin"
    if origin == ANY:
        return "'*' stands alone, not in a list"
    if ANY in origin:
        return f"{origin!r}: a pattern is written as a function, origin=lambda origin: …"
    if origin == "null":
        return "'null' is what a page has whose origin is hidden: anybody's"
    parts = urlsplit(origin)
    if not parts.scheme or not parts.netloc:
        return f"{origin!r} is no origin; write it like https://app.example.com"
    if origin != f"{parts.scheme}://{parts.netloc}":
        return f"{origin!r} has a path; an origin ends with its host or port"
    if origin != origin.lower():
        return f"{origin!r}: browsers send origins in lower case"
    return None


def _faults_of_names(option: str, names: object, pattern: re.Pattern[str]) -> list[str]:
    if not isinstance(names, (list, tuple, set, frozenset)):
        return [f"{option} is a list of names"]
    return [
        f"{option}: {name!r} is no name"
        for name in cast("Sequence[object]", names)
        if not isinstance(name, str) or pattern.fullmatch(name) is None
    ]
