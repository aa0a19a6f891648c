"""Where a request carries what proves who sent it, and what is said of it if it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

from rivet_ray.definition import Request
from rivet_ray.errors import Forbidden, Outcome, Unauthorized

MAX_CREDENTIAL = 16_384
"""Characters of the longest token that is looked at."""


class Reason(str, Enum):
    """Why a caller is refused: `error.metadata["reason"]` at the client."""

    MISSING_TOKEN = "missing_token"
    """The request carries no credential."""
    INVALID_TOKEN = "invalid_token"
    """It cannot be read, is signed by somebody else, or by another algorithm."""
    EXPIRED_TOKEN = "expired_token"
    """It was good once; the client should get a new one and try again."""
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_ISSUER = "wrong_issuer"
    MISSING_CLAIM = "missing_claim"
    UNKNOWN_KEY = "unknown_key"
    """It is signed by a key that the JWKS does not have."""
    INVALID_API_KEY = "invalid_api_key"
    MISSING_SCOPE = "missing_scope"
    WRONG_ORIGIN = "wrong_origin"
    """A browser sent it for a page that is not among those that may."""


def unauthorized(reason: Reason, message: str) -> Unauthorized:
    return Unauthorized(message, metadata={"reason": reason.value}, outcome=Outcome.NOT_STARTED)


def forbidden(reason: Reason, message: str, **more: Any) -> Forbidden:
    metadata = {"reason": reason.value, **more}
    return Forbidden(message, metadata=metadata, outcome=Outcome.NOT_STARTED)


def headers_named(request: Request, name: str) -> list[str]:
    """The values of a header, in order; more than one where it is repeated."""
    wanted = name.lower()
    return [value for found, value in request.headers if found == wanted]


def cookie_of(request: Request, name: str) -> str | None:
    """The value of a cookie as it was sent, or None.

    A browser sends cookies for every page that asks it to, over WebSockets too,
    which CORS does not guard: call `require_origin` where a cookie proves who
    somebody is.
    """
    # By hand: the parser of the standard library gives up at the first odd cookie.
    for header in headers_named(request, "cookie"):
        for pair in header.split(";"):
            found, separator, value = pair.partition("=")
            if separator and found.strip() == name:
                value = value.strip()
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                return value[1:-1] if quoted else value
    return None


def find_credential(
    request: Request,
    params: Any = None,
    *,
    names: Sequence[str] = ("authToken", "token"),
    headers: Sequence[str] = ("Authorization",),
    cookies: Sequence[str] = (),
) -> str:
    """The caller's token or key: the first of the parameters `names`, `headers`, `cookies`.

    `params` is a mapping, or an object with these attributes. `Authorization`
    has to say `Bearer`; other headers hold the credential alone. Raises
    Unauthorized where there is none, where it is no text, where a header is
    repeated, or where it is longer than 16,384 characters.
    """
    found = _of_params(params, names)
    if found is None:
        found = _of_headers(request, headers)
    if found is None:
        found = next((value for name in cookies if (value := cookie_of(request, name))), None)
    if found is None:
        raise unauthorized(Reason.MISSING_TOKEN, "This needs a token.")
    if not isinstance(found, str) or len(found) > MAX_CREDENTIAL:
        raise unauthorized(Reason.INVALID_TOKEN, "The token cannot be read.")
    return found


def _of_params(params: Any, names: Sequence[str]) -> object:
    if params is None:
        return None
    for name in names:
        if isinstance(params, Mapping):
            value = cast("Mapping[str, object]", params).get(name)
        else:
            value = getattr(params, name, None)
        if value is not None and value != "":
            return value
    return None


def _of_headers(request: Request, names: Sequence[str]) -> str | None:
    for name in names:
        values = headers_named(request, name)
        if len(values) > 1:
            raise unauthorized(Reason.INVALID_TOKEN, f"The header {name} is repeated.")
        if not values:
            continue
        if name.lower() != "authorization":
            return values[0].strip() or None
        scheme, _, credential = values[0].strip().partition(" ")
        if scheme.lower() == "bearer" and credential.strip():
            return credential.strip()
    return None
