"""API keys, of which the server keeps hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, cast, overload

from typing_extensions import TypeVar

from rivet_ray.auth.credentials import Reason, find_credential, unauthorized
from rivet_ray.definition import Request
from rivet_ray.definition.identity import KEY_ID

AuthT = TypeVar("AuthT", default=Any)

ALGORITHM = "sha256"
ID_DIGITS = 16
"""Of the hash, in the id of a key."""
PARAMS = ("authToken", "token")
HEADERS = ("X-API-Key", "Authorization")


def new_api_key(prefix: str = "rk") -> str:
    """A new key with 256 random bits: show it once, keep `hash_api_key` of it."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def hash_api_key(key: str) -> str:
    """What to keep of a key: `sha256:` and 64 hex digits.

    One round of SHA-256 is enough for keys that cannot be guessed, as those of
    `new_api_key`. It is not enough for passwords.
    """
    return f"{ALGORITHM}:{hashlib.sha256(key.encode()).hexdigest()}"


class APIKeys(Generic[AuthT]):
    """Knows callers by their API keys.

        keys = APIKeys({"sha256:9f86d0…": {"name": "importer", "scopes": ["read"]}})

    `known` maps `hash_api_key` of each key to what becomes `conn.auth`, or is a
    function, plain or `async`, from the hash to that or None: a look-up in a
    database. A mapping is compared entry by entry in constant time, so it is
    for up to some hundreds of keys; it is read at each call, so keys may be
    added and taken away. A dict without `key_id` gets the id of the key, the first
    digits of its hash: whose calls these are (`Actor.caller_identity`). Raises
    ValueError for a mapping with something else than hashes in it.
    """

    @overload
    def __init__(
        self,
        known: Mapping[str, AuthT],
        *,
        params: Sequence[str] = PARAMS,
        headers: Sequence[str] = HEADERS,
    ) -> None: ...
    @overload
    def __init__(
        self,
        known: Callable[[str], Awaitable[AuthT | None]],
        *,
        params: Sequence[str] = PARAMS,
        headers: Sequence[str] = HEADERS,
    ) -> None: ...
    @overload
    def __init__(
        self,
        known: Callable[[str], AuthT | None],
        *,
        params: Sequence[str] = PARAMS,
        headers: Sequence[str] = HEADERS,
    ) -> None: ...
    def __init__(
        self,
        known: Mapping[str, AuthT] | Callable[[str], Any],
        *,
        params: Sequence[str] = PARAMS,
        headers: Sequence[str] = HEADERS,
    ) -> None:
        self._look_up: Callable[[str], Any]
        if isinstance(known, Mapping):
            entries = cast("Mapping[str, AuthT]", known)
            for entry in entries:
                _check_hash(entry)
            self._look_up = partial(_compare_all, entries)
        else:
            self._look_up = known
        self._params = params
        self._headers = headers

    async def authenticate(self, request: Request, params: Any = None) -> AuthT:
        """Whose key the request carries. Raises Unauthorized."""
        key = find_credential(request, params, names=self._params, headers=self._headers)
        return await self.verify(key)

    async def verify(self, key: str) -> AuthT:
        """Whose key this is. Raises Unauthorized, and what a look-up raises."""
        try:
            hashed = hash_api_key(key)
        except UnicodeEncodeError as error:
            raise _unknown() from error
        answer = self._look_up(hashed)
        found: AuthT | None = await answer if isawaitable(answer) else answer
        if found is None or found is False:
            raise _unknown()
        given: Any = found
        if isinstance(given, dict) and KEY_ID not in given:
            named = {
                **cast("dict[str, Any]", given),
                KEY_ID: hashed[: len(ALGORITHM) + 1 + ID_DIGITS],
            }
            return cast("AuthT", named)
        return found


def _compare_all(known: Mapping[str, AuthT], hashed: str) -> AuthT | None:
    found: AuthT | None = None
    for entry, auth in known.items():
        # No early end: how long it takes says nothing of which key was near.
        if hmac.compare_digest(entry.encode(), hashed.encode()):
            found = auth
    return found


def _unknown() -> Exception:
    return unauthorized(Reason.INVALID_API_KEY, "This API key is not known.")


def _check_hash(entry: str) -> None:
    algorithm, _, digits = entry.partition(":")
    if algorithm != ALGORITHM or len(digits) != 64 or digits.strip("0123456789abcdef"):
        raise ValueError(
            "API keys are kept as hashes: write hash_api_key(key), 'sha256:' and 64 hex digits."
        )
