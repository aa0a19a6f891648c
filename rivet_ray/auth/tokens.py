"""JSON Web Tokens, verified strictly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from rivet_ray.auth.credentials import Reason, find_credential, unauthorized
from rivet_ray.auth.jwks import FAMILIES, JWKS, MIN_RSA_BITS
from rivet_ray.definition import Request
from rivet_ray.errors import Unauthorized

SECRET = "oct"
"""The family of the algorithms with one secret for signing and verifying."""


class JWT:
    """Knows callers by signed tokens of one issuer.

        JWT(secret, algorithms=["HS256"], audience="chat")
        JWT(public_key_pem, algorithms=["ES256"], issuer="https://id.example.com")
        JWT(JWKS(url), algorithms=["RS256"], audience="chat")

    `key` is a secret, a public key (PEM or an object of `cryptography`), or a
    `JWKS`. A token passes if one of `algorithms` signed it with that key, if it
    holds every claim in `required`, if it is neither expired nor used too early
    (by more than `leeway` seconds), and if it is for `audience` and from
    `issuer`. Where no audience is given, a token that names one is refused.

    The token is looked for in the connection parameters `params`, then in the
    `headers`, then in the `cookies`; with cookies call `require_origin` too.

    Raises ValueError for what could not be safe: algorithms of different kinds
    (a public key could be taken for a secret), `none`, a secret shorter than its
    hash, an RSA key under 2,048 bits, a private key, or a JWKS for secrets.
    """

    def __init__(
        self,
        key: str | bytes | RSAPublicKey | EllipticCurvePublicKey | JWKS,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0.0,
        required: Sequence[str] = ("exp",),
        params: Sequence[str] = ("authToken", "token"),
        headers: Sequence[str] = ("Authorization",),
        cookies: Sequence[str] = (),
    ) -> None:
        self._algorithms = _checked(algorithms)
        self._keys: dict[str, Any] | JWKS
        if isinstance(key, JWKS):
            if FAMILIES[self._algorithms[0]] == SECRET:
                raise ValueError("A JWKS holds public keys; use RS256 or ES256, not HS256.")
            self._keys = key
        else:
            self._keys = {name: _prepared(name, key) for name in self._algorithms}
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._required = list(required)
        self._params = params
        self._headers = headers
        self._cookies = cookies

    async def authenticate(self, request: Request, params: Any = None) -> dict[str, Any]:
        """The claims of the caller's token. Raises Unauthorized and AuthUnavailable."""
        token = find_credential(
            request,
            params,
            names=self._params,
            headers=self._headers,
            cookies=self._cookies,
        )
        return await self.verify(token)

    async def verify(self, token: str) -> dict[str, Any]:
        """The claims of a good token. Raises Unauthorized and AuthUnavailable."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, UnicodeError, RecursionError) as error:
            raise _invalid() from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise _invalid()
        if isinstance(self._keys, JWKS):
            key = await self._keys.key(kid if isinstance(kid, str) else None, algorithm)
        else:
            key = self._keys[algorithm]
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                # One: what the header says is only ever a choice among ours.
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": self._required},
            )
        except jwt.InvalidTokenError as error:
            raise _refusal(error) from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise _invalid() from error
        return claims


def _checked(algorithms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(algorithms, str) or not algorithms:
        raise ValueError('Name the algorithms as a list, like ["RS256"].')
    unknown = [name for name in algorithms if name not in FAMILIES]
    if unknown:
        raise ValueError(f"Not among the algorithms {', '.join(FAMILIES)}: {', '.join(unknown)}.")
    if len({FAMILIES[name] for name in algorithms}) > 1:
        raise ValueError(
            f"{', '.join(algorithms)} want keys of different kinds; make one JWT for each."
        )
    return tuple(algorithms)


def _prepared(algorithm: str, key: Any) -> Any:
    """The key as the algorithm uses it. Raises ValueError for one that is not safe."""
    implementation = jwt.get_algorithm_by_name(algorithm)
    try:
        prepared: Any = implementation.prepare_key(key)
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise ValueError(f"This is no key for {algorithm}: {error}") from error
    if FAMILIES[algorithm] == SECRET:
        weak = implementation.check_key_length(prepared)
        if weak:
            raise ValueError(f"{weak} Make one with secrets.token_bytes(64).")
    elif not hasattr(prepared, "verify"):
        raise ValueError(f"{algorithm} is verified with the public key; keep the private one away.")
    elif FAMILIES[algorithm] == "RSA" and prepared.key_size < MIN_RSA_BITS:
        raise ValueError(f"An RSA key has at least {MIN_RSA_BITS} bits.")
    return prepared


def _invalid() -> Unauthorized:
    return unauthorized(Reason.INVALID_TOKEN, "The token is not valid.")


def _refusal(error: jwt.InvalidTokenError) -> Unauthorized:
    for kind, (reason, message) in _REFUSALS.items():
        if isinstance(error, kind):
            return unauthorized(reason, message)
    return _invalid()


_REFUSALS: dict[type[jwt.InvalidTokenError], tuple[Reason, str]] = {
    jwt.ExpiredSignatureError: (Reason.EXPIRED_TOKEN, "The token has expired."),
    jwt.ImmatureSignatureError: (Reason.TOKEN_NOT_YET_VALID, "The token is not valid yet."),
    jwt.InvalidAudienceError: (Reason.WRONG_AUDIENCE, "The token is for somebody else."),
    jwt.InvalidIssuerError: (Reason.WRONG_ISSUER, "The token comes from somebody else."),
    jwt.MissingRequiredClaimError: (Reason.MISSING_CLAIM, "The token lacks a claim."),
}
