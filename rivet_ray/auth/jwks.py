"""The public keys of an issuer, by URL (RFC 7517), kept and renewed."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx
import jwt

from rivet_ray.auth.credentials import Reason, unauthorized
from rivet_ray.errors import AuthUnavailable, Outcome

log = logging.getLogger("rivet_ray.auth")

FAMILIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
    **dict.fromkeys(("HS256", "HS384", "HS512"), "oct"),
}
"""The algorithms that are supported, and the key type of each."""

CURVES: Final[Mapping[str, tuple[str, ...]]] = {
    "ES256": ("P-256",),
    "ES384": ("P-384",),
    "ES512": ("P-521",),
    "EdDSA": ("Ed25519", "Ed448"),
}
"""Those of a key for elliptic curves, which also come for agreement on keys (X25519)."""
PUBLIC = ("kty", "crv", "n", "e", "x", "y")
MIN_RSA_BITS = 2048
MAX_BODY = 1_048_576
"""Bytes of the longest key set that is read."""


class Unreadable(Exception):
    """What came from the URL is no key set."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str | None
    kty: str
    algorithm: str | None
    curve: str | None
    public: Any

    def suits(self, algorithm: str) -> bool:
        return (
            self.kty == FAMILIES[algorithm]
            and self.algorithm in (None, algorithm)
            and (algorithm not in CURVES or self.curve in CURVES[algorithm])
        )


class JWKS:
    """The key set at `url`: fetched at first use, and again when a token needs another key.

    Keys are used without asking for `fresh` seconds, and for up to `usable`
    seconds while the URL does not answer. After a fetch that failed, or that a
    key made necessary which nobody knows, none is made for `retry_after` seconds:
    forged tokens cannot make this one flood the issuer. A fetch takes at most
    `timeout` seconds, follows no redirect, and is made once for all who wait.

    `url` has to be `https`, but on the loopback and where `allow_http` says so;
    raises ValueError. Sets of secrets (`oct`) and keys for encryption are ignored.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        fresh: float = 600.0,
        usable: float = 86_400.0,
        retry_after: float = 10.0,
        headers: Mapping[str, str] | None = None,
        allow_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_url(url, allow_http)
        self._url = url
        self._timeout = timeout
        self._fresh = fresh
        self._usable = usable
        self._retry_after = retry_after
        self._headers = {"accept": "application/json", "accept-encoding": "identity"}
        self._headers.update(headers or {})
        self._clock = clock
        self._keys: list[_Key] = []
        self._fetched: float | None = None
        self._pause_until = -float("inf")
        self._failed = False
        self._fetches: int = 0
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def key(self, kid: str | None, algorithm: str) -> Any:
        """The public key for a token. Raises Unauthorized and AuthUnavailable.

        A token that names no key is verified with the only one that suits.
        """
        now, known = self._clock(), self._find(kid, algorithm)
        if known is not None:
            age = now - (self._fetched or 0.0)
            if age < self._fresh:
                return known
            # Old keys will do while somebody else fetches, or nobody may.
            if age < self._usable and (now < self._pause_until or self._locked().locked()):
                return known
        if now >= self._pause_until or self._locked().locked():
            await self._renew(unknown=known is None)
        found = self._find(kid, algorithm)
        late = self._fetched is None or self._clock() - self._fetched >= self._usable
        # What an issuer that is down has signed may be good: no reason to send anybody away.
        if late or (found is None and self._failed):
            raise AuthUnavailable(
                "The keys that tokens are verified with cannot be had; try again later.",
                outcome=Outcome.NOT_STARTED,
            )
        if found is None:
            raise unauthorized(Reason.UNKNOWN_KEY, "The token is signed by an unknown key.")
        return found

    def _find(self, kid: str | None, algorithm: str) -> Any:
        suitable = [key for key in self._keys if key.suits(algorithm)]
        if kid is not None:
            suitable = [key for key in suitable if key.kid == kid]
        return suitable[0].public if len(suitable) == 1 else None

    def _locked(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        return self._lock[1]

    async def _renew(self, *, unknown: bool) -> None:
        """Fetch the set, unless somebody else did while this waited."""
        before = self._fetches
        async with self._locked():
            if self._fetches != before:
                return
            first = self._fetched is None
            try:
                async with asyncio.timeout(self._timeout):
                    self._keys = _parse(await self._fetch())
            except (httpx.HTTPError, OSError, TimeoutError, Unreadable) as error:
                log.warning("the keys at %s cannot be had: %r", self._url, error)
                self._pause_until = self._clock() + self._retry_after
                self._failed = True
            else:
                self._fetched = self._clock()
                self._failed = False
                if unknown and not first:
                    self._pause_until = self._fetched + self._retry_after
            self._fetches += 1

    async def _fetch(self) -> bytes:
        # Reading the certificates takes tens of milliseconds, so not on the event loop.
        secure = self._url.startswith("https:")
        verify = await asyncio.to_thread(httpx.create_ssl_context) if secure else False
        async with (
            httpx.AsyncClient(verify=verify, timeout=self._timeout) as http,
            http.stream("GET", self._url, headers=self._headers) as response,
        ):
            if response.status_code != 200:
                raise Unreadable(f"it answers {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Unreadable(f"it is longer than {MAX_BODY} bytes")
            return bytes(body)


def _parse(body: bytes) -> list[_Key]:
    try:
        document: Any = json.loads(body)
        entries: Any = document["keys"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Unreadable("it is no JSON with keys in it") from error
    if not isinstance(entries, list):
        raise Unreadable("its keys are no list")
    keys = [key for entry in cast("list[Any]", entries) if (key := _key(entry)) is not None]
    if not keys:
        raise Unreadable("it holds no public key for signatures")
    return keys


def _key(entry: Any) -> _Key | None:
    """One key of a set, or None for what cannot verify a signature of ours."""
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, Any]", entry)
    kty, algorithm = fields.get("kty"), fields.get("alg")
    operations = fields.get("key_ops", ["verify"])
    if (
        kty not in ("RSA", "EC", "OKP")
        or fields.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    # Only the public half is taken, should an issuer publish more.
    public = {name: value for name, value in fields.items() if name in PUBLIC}
    try:
        made: Any = jwt.PyJWK(public).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        log.warning("a key of a JWKS cannot be used: %r", error)
        return None
    if kty == "RSA" and made.key_size < MIN_RSA_BITS:
        log.warning("a key of a JWKS has %d bits, under %d", made.key_size, MIN_RSA_BITS)
        return None
    kid = fields.get("kid")
    return _Key(
        kid if isinstance(kid, str) else None,
        kty,
        algorithm if isinstance(algorithm, str) else None,
        fields.get("crv"),
        made,
    )


def _check_url(url: str, allow_http: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a JWKS.")
    if parts.scheme == "http" and not allow_http and not _loopback(parts.hostname):
        raise ValueError(
            f"Whoever is between here and {parts.hostname} could put in keys of their own; "
            "use https, or say allow_http=True."
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
