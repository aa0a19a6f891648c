"""C4 where tokens run out: a caller is the same with each of their tokens.

Real servers and tokens, connections that are cut, calls that are sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from client_succession import succession
from client_worlds import PATIENCE, WAYS, world

from rivet_ray import Actor, IdempotencyKeyRefused, Outcome, Registry, Unauthorized, action, use
from rivet_ray.auth import JWT, APIKeys, hash_api_key, new_api_key

SECRET = "s" * 64
TOKENS = JWT(SECRET, algorithms=["HS256"], audience="bank")
HOUR = 3600.0


@dataclass
class State:
    total: int = 0
    paid: list[str] = field(default_factory=list[str])


class Bank(Actor[State, None, Any, None, dict[str, Any]]):
    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> dict[str, Any]:
        return await TOKENS.authenticate(request, params)

    @action
    def pay(self, amount: int) -> int:
        self.state.total += amount
        self.state.paid.append(self.auth.get("sub", "nobody"))
        return self.state.total

    @action
    def paid(self) -> list[str]:
        return self.state.paid

    @action
    def expiry(self) -> int:
        return self.auth["exp"]


class App(Registry):
    bank = use(Bank)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """The hour of the verifier: `expire` moves it."""
    yield
    TOKENS._leeway = 0.0


def expire() -> None:
    """An hour passes for whoever looks at tokens."""
    TOKENS._leeway -= HOUR


_counter = itertools.count()


def token(hours: float, **claims: Any) -> str:
    """Each one is another, as those of any issuer."""
    now = int(time.time())
    claims = {"sub": "ann", "aud": "bank", "jti": str(next(_counter)), **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    # Long ago, since less leeway moves both ends of a token's time.
    times = {"iat": now - int((24 - hours) * HOUR), "exp": now + int(hours * HOUR) + 600}
    return jwt.encode({**claims, **times}, SECRET, "HS256")


class Fresh:
    """Parameters with the token at hand, which is renewed when it has run out."""

    def __init__(self, **claims: Any) -> None:
        self.claims = claims
        self.hours = 0
        self.given: list[str] = []

    def __call__(self) -> dict[str, str]:
        self.given.append(token(self.hours, **self.claims))
        return {"token": self.given[-1]}

    async def run_out(self) -> None:
        """Those so far are of no use any more; the next one is."""
        expire()
        self.hours += 1
        with pytest.raises(Unauthorized):
            await TOKENS.verify(self.given[-1])


# --- Sent again ---------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("lost", ["connection", "server"])
async def test_a_call_that_is_sent_again_with_another_token(transport: Any, lost: str) -> None:
    """The answer is lost with the connection, and the token runs out before it is back."""
    params = Fresh()
    async with (
        succession(App) as servers,
        App.client(servers.road.url, transport=transport, timeout=PATIENCE) as client,
        client.bank.get_or_create("k", params=params).connect() as connection,
    ):
        road = servers.road
        first = await connection.actor.expiry()
        assert await connection.actor.with_options(idempotency_key="a").pay(5) == 5
        road.loses_answers = True
        paying = asyncio.ensure_future(connection.actor.with_options(idempotency_key="b").pay(7))
        await servers.saved("bank", "k", "total", 12)
        await params.run_out()
        road.loses_answers = False
        if lost == "server":
            await servers.crash()
        else:
            road.cut()
        assert await paying == 12, "the answer of the first time"
        assert await connection.actor.expiry() > first
        assert await connection.actor.with_options(idempotency_key="a").pay(5) == 5
        assert await connection.actor.paid() == ["ann", "ann"]


async def test_calls_over_http_with_renewed_tokens() -> None:
    params = Fresh()
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        once = client.bank.get_or_create("k", params=params).with_options(idempotency_key="a")
        assert await once.pay(5) == 5
        await params.run_out()
        assert await once.pay(5) == 5
        # The same caller, however they come.
        async with client.bank.get_or_create("k", params=params).connect() as connection:
            assert await connection.actor.with_options(idempotency_key="a").pay(5) == 5
            assert await connection.actor.paid() == ["ann"]


# --- Who is who ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "others",
    [{"sub": "bob"}, {"iss": "https://other.example.com"}],
    ids=["another subject", "another issuer"],
)
async def test_the_same_key_of_somebody_else(others: dict[str, str]) -> None:
    ann = Fresh(iss="https://id.example.com")
    other = Fresh(**{"iss": "https://id.example.com", **others})
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        totals = [
            await client.bank.get_or_create("k", params=who)
            .with_options(idempotency_key="a")
            .pay(5)
            for who in (ann, other, ann, other)
        ]
        assert totals == [5, 10, 5, 10]


@WAYS
async def test_a_caller_whom_nobody_knows(transport: Any) -> None:
    """A key is refused, and nothing runs; a client does not send it again."""
    params = Fresh(sub=None)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        bank = client.bank.get_or_create("k", params=params)
        async with bank.connect() as connection:
            for actor in (bank, connection.actor):
                with pytest.raises(IdempotencyKeyRefused, match="anonymous_keys") as refused:
                    await actor.with_options(idempotency_key="a").pay(5)
                assert refused.value.outcome is Outcome.NOT_STARTED
            assert await connection.actor.pay(5) == 5
            assert await bank.paid() == ["nobody"]


async def test_keys_of_a_program() -> None:
    """Two API keys are two callers, whatever else is said of them."""
    keys = [new_api_key(), new_api_key()]
    known = APIKeys({hash_api_key(key): {"name": "importer"} for key in keys})

    class Imports(Bank):
        @classmethod
        async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
            return await known.authenticate(request, params)

    class Programs(Registry):
        imports = use(Imports)

    async with world(Programs) as (road, _), Programs.client(road.url) as client:
        totals = [
            await client.imports.get_or_create("k", params={"token": key})
            .with_options(idempotency_key="a")
            .pay(5)
            for key in (*keys, *keys)
        ]
        assert totals == [5, 10, 5, 10]
