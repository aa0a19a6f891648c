"""Which pages may use a gateway, and under which names: one rule for every transport.

A browser says in `Origin` whose page sends a request, also where it opens a WebSocket,
which CORS does not guard. A page of the server's own origin passes, and one that CORS
admits; another is refused before anything is read, looked up or run. A request without
`Origin` is sent by no page of another origin, and passes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from rivet_ray.definition import CORS
from rivet_ray.definition.user_code import call, finish
from rivet_ray.errors import HostNotAllowed, OriginNotAllowed, Outcome, RivetError
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")

PATIENCE = 5.0
"""Seconds that a function may take to judge an origin."""

DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
SECURE: Final = frozenset({"https", "wss"})
REFUSAL: Final = "rivet_ray.refusal"
"""Where the scope of a WebSocket says why it is refused: its route tells the client."""
LONGEST: Final = 100
"""Characters of a stranger's header that an error repeats."""

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""


def normal(text: str) -> Origin | None:
    """An origin as it is compared: in lower case, with its port; None if it is none."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if not host or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return parts.scheme, host, port or DEFAULT_PORTS.get(parts.scheme)


def host_of(header: str) -> tuple[str, int | None] | None:
    """Name and port of a `Host`, in lower case; None if it is none."""
    try:
        parts = urlsplit(f"//{header}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.netloc != header or "@" in header:
        return None
    return parts.hostname.removesuffix("."), port


def is_loopback(host: str) -> bool:
    """Whether a name or address, without a port, is always this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    found = address(host)
    return found is not None and found.is_loopback


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, if it is not a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Origins:
    """What `CORS` and the settings of a gateway say of pages and names."""

    def __init__(
        self, cors: CORS | None, *, loopback: bool = False, hosts: Sequence[str] | None = None
    ) -> None:
        origin = None if cors is None else cors.origin
        self.any_origin = cors is not None and cors.any_origin
        self._judge = origin if callable(origin) else None
        self._named: frozenset[Origin | None] = frozenset()
        if origin is not None and not callable(origin):
            named = (origin,) if isinstance(origin, str) else origin
            self._named = frozenset(normal(item) for item in named) - {None}
        self._loopback = loopback
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._any_address = self._hosts is not None and not self._hosts.isdisjoint(
            ("0.0.0.0", "::")
        )

    def check_host(self, scope: Scope) -> None:
        """Raise HostNotAllowed: the page of a name that somebody has led to this server."""
        if self._hosts is None:
            return
        found = _values(scope, b"host")
        if not found:
            return  # It is sent by no browser.
        host = host_of(found[0]) if len(found) == 1 else None
        if host is None or not self._is_ours(host[0]):
            raise HostNotAllowed(
                f"{found[0][:LONGEST]!r} is not a name of this server. If it should be, allow it: "
                f"rivet-ray dev --allow-host NAME.",
                outcome=Outcome.NOT_STARTED,
            )

    def _is_ours(self, host: str) -> bool:
        assert self._hosts is not None
        if host in self._hosts or is_loopback(host):
            return True
        # Nobody can lead a number elsewhere.
        return self._any_address and address(host) is not None

    async def permission(self, scope: Scope) -> str | None:
        """The value of `Access-Control-Allow-Origin` for this page; None for none."""
        if self.any_origin:
            return "*"
        found = _values(scope, b"origin")
        if len(found) != 1:
            return None
        (text,) = found
        origin = normal(text)
        if origin is not None and origin in self._named:
            return text
        if self._loopback and origin is not None and is_loopback(origin[1]):
            return text
        return None if self._judge is None else await self._judged(text)

    def check(
        self, scope: Scope, permission: str | None, outside: Callable[[str], bool] | None = None
    ) -> None:
        """Raise OriginNotAllowed for the page of an origin that has no permission.

        `outside` is the rule of an application that the gateway is mounted into.
        """
        if permission == "*":
            return
        found = _values(scope, b"origin")
        if not found:
            return
        if len(found) == 1:
            (text,) = found
            origin = normal(text)
            if permission == text:
                return
            if permission is not None and origin is not None and normal(permission) == origin:
                return
            if _own(scope, origin) or (outside is not None and outside(text)):
                return
        raise OriginNotAllowed(
            f"Pages of the origin {found[0][:LONGEST]!r} may not use these actors. If they "
            f"should, name it: "
            f"class App(Registry, cors=CORS(origin=[…])), or --cors-origin.",
            outcome=Outcome.NOT_STARTED,
        )

    async def _judged(self, origin: str) -> str | None:
        assert self._judge is not None
        try:
            verdict: object = call("CORS", self._judge, origin)
            if isawaitable(verdict):
                async with asyncio.timeout(PATIENCE):
                    verdict = await finish("CORS", self._judge, verdict)
        except Exception:
            # A page that may not is the safe answer, and the log says why.
            log.exception("the CORS function failed for the origin %r", origin, extra=REPEATED)
            return None
        if verdict is True:
            return origin
        if not isinstance(verdict, str) or not verdict:
            return None
        if verdict == "*" or not verdict.isascii() or not verdict.isprintable():
            log.error("the CORS function gave %r, which is no origin", verdict, extra=REPEATED)
            return None
        return verdict


def _values(scope: Scope, wanted: bytes) -> list[str]:
    """What a request says in a header, once for each time that it is there."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _own(scope: Scope, origin: Origin | None) -> bool:
    """Whether it is the origin of the request's own address.

    Behind a proxy that ends TLS the server sees `http`, so that the scheme counts only
    where the server sees `https`.
    """
    found = _values(scope, b"host")
    host = host_of(found[0]) if len(found) == 1 else None
    if origin is None or host is None or origin[0] not in DEFAULT_PORTS:
        return False
    if scope["scheme"] in SECURE and origin[0] not in SECURE:
        return False
    name, port = host
    return origin[1:] == (name, port or DEFAULT_PORTS[origin[0]])


def raise_refusal(scope: Scope) -> None:
    """Raise what a WebSocket is refused with, if it is."""
    error = scope.get(REFUSAL)
    if isinstance(error, RivetError):
        raise error
