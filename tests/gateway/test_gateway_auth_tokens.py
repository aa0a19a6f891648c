"""Every route that `on_auth` guards, with every kind of token: JWT over the real wire."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from gateway_surfaces import Knock, Reachable
from gateway_wire import Serve, get, get_or_create

from rivet_ray import Actor, action
from rivet_ray.auth import JWT

STARTED: list[tuple[str, ...]] = []
"""Keys of the actors that were created; they live in this process."""
SECRET = "the secret of these tests, of 64 characters, so of more than 512 bits"
TOKENS = JWT(SECRET, algorithms=["HS256"], audience="tests")


class Tokened(Reachable, Actor[None]):
    """Guarded by real tokens."""

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        return await TOKENS.authenticate(request, params)

    def create_state(self, input: Any) -> None:
        STARTED.append(self.key)

    @action
    def whoami(self) -> Any:
        return self.conn.auth


DAY = 86_400
"""Seconds: tokens are made when tests are collected, and used much later."""


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    body = {"sub": "ann", "aud": "tests", "exp": int(time.time()) + DAY, **claims}
    return jwt.encode(body, secret, algorithm)


UNSIGNED = jwt.encode({"sub": "ann", "aud": "tests", "exp": 2**40}, None, "none")
TOKENS_SENT: dict[str, tuple[Any, str | None]] = {
    "missing": (..., "missing_token"),
    "null": ({"token": None}, "missing_token"),
    "garbled": ({"token": "a.b.c"}, "invalid_token"),
    "unsigned": ({"token": UNSIGNED}, "invalid_token"),
    "of another": ({"token": token("x" * 64)}, "invalid_token"),
    "of another algorithm": ({"token": token(algorithm="HS512")}, "invalid_token"),
    "expired": ({"token": token(exp=int(time.time()) - 1)}, "expired_token"),
    "too early": ({"token": token(nbf=int(time.time()) + DAY)}, "token_not_yet_valid"),
    "for another": ({"token": token(aud="mail")}, "wrong_audience"),
    "valid": ({"token": token()}, None),
}


@pytest.mark.parametrize("sent", TOKENS_SENT)
async def test_tokens(serve: Serve, surface: tuple[Knock, set[str]], sent: str) -> None:
    """Every route, with every kind of token: in with a good one, and no actor otherwise."""
    site = await serve({"tokened": Tokened})
    knock, _ = surface
    params, reason = TOKENS_SENT[sent]
    STARTED.clear()
    query = get_or_create("tokened", "a")
    if reason is None:
        assert await knock(site, query, params) is None
        assert (await site.call(query, "whoami", params=params)).output["sub"] == "ann"
        return
    assert await knock(site, query, params) == "unauthorized"
    assert STARTED == []
    told = await site.resolve(query, params=params)
    assert told.body["md"] == {"reason": reason}
    assert await knock(site, get("tokened", "a"), TOKENS_SENT["valid"][0]) == "actor_not_found"
