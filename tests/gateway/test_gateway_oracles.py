"""A query by id does not tell strangers whether there is such an actor (D6)."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_streams import opening
from gateway_surfaces import Knock, Reachable
from gateway_wire import Serve, Site, by_id, get_or_create

from rivet_ray import Actor, AuthUnavailable, Forbidden, Unauthorized, UserError, action

ASKED: list[frozenset[str]] = []
RECORDS = (ASKED,)
ALLOWED = {"token": "good"}
NOWHERE = "0123456789abcdef"


class Guarded(Reachable, Actor[None]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        ASKED.append(intents)
        match params["token"]:  # A KeyError, or a TypeError, for those who bring none.
            case "good":
                return {"sub": "ann"}
            case "bad":
                raise Forbidden("Not you.")
            case "old":
                raise Unauthorized("It has expired.")
            case "sold out":
                raise UserError("No seats left.", code="sold_out", metadata={"seats": 0})
            case "busy":
                raise AuthUnavailable("The issuer does not answer.")
            case _:
                return False

    @action
    def whoami(self) -> Any:
        return self.auth


class Other(Guarded):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        ASKED.append(intents)
        raise Unauthorized("This is another one.")


class Private(Reachable, Actor[None]):
    @action
    def whoami(self) -> None: ...


class Open(Private):
    public = True


async def existing(site: Site, name: str = "guarded", params: Any = ALLOWED) -> str:
    found: str = (await site.resolve(get_or_create(name, "a"), params=params)).body["i"]
    return found


STRANGERS = [..., None, {"token": "bad"}, {"token": "old"}, {"token": "sold out"}, {"token": "?"}]


@pytest.mark.parametrize("params", STRANGERS, ids=range(6))
async def test_one_answer_on_every_way(
    serve: Serve, surface: tuple[Knock, set[str]], params: Any
) -> None:
    site = await serve({"guarded": Guarded})
    actor = await existing(site)
    knock, _ = surface
    for target in (actor, NOWHERE):
        await site.take(__name__, "ASKED")
        assert await knock(site, by_id(target), params) == "actor_not_found"
        assert len(await site.take(__name__, "ASKED")) == 1, "as much work"
    assert await knock(site, by_id(actor), ALLOWED) is None
    assert await knock(site, by_id(NOWHERE), ALLOWED) == "actor_not_found"


@pytest.mark.parametrize("params", STRANGERS, ids=range(6))
async def test_one_answer_to_the_byte(serve: Serve, params: Any) -> None:
    """Whatever types there are, and whichever the id would be of."""
    site = await serve({"guarded": Guarded, "other": Other, "private": Private})
    actor = await existing(site)
    targets = (actor, *(f"{number:016x}" for number in range(8)))
    answers = [await site.call(by_id(target), "whoami", params=params) for target in targets]
    assert len({(answer.status, answer.raw, answer.outcome) for answer in answers}) == 1
    assert (await site.call(by_id(actor), "whoami", params=ALLOWED)).output == {"sub": "ann"}


async def test_what_may_pass_is_told(serve: Serve) -> None:
    """It says nothing of the actor, and a client has to know that it may try again."""
    site = await serve({"guarded": Guarded})
    for target in (await existing(site), NOWHERE):
        answer = await site.call(by_id(target), "whoami", params={"token": "busy"})
        assert (answer.status, answer.code) == (503, "auth_unavailable")


async def test_where_nobody_is_asked_there_is_nothing_to_hide(serve: Serve) -> None:
    site = await serve({"open": Open})
    actor = await existing(site, "open", ...)
    assert (await site.call(by_id(actor), "whoami")).status == 200
    assert (await site.call(by_id(NOWHERE), "whoami")).code == "actor_not_found"


async def test_the_client_of_a_connection_is_told_why(serve: Serve) -> None:
    """It knows that there is such an actor: its token proves it, and another does not."""
    site = await serve({"guarded": Guarded})
    query = by_id(await existing(site))
    async with opening(site, site.headers(query, ALLOWED, conn_seen="0")) as stream:
        first = await stream.init()
        stream.abort()
    back = {"conn_seen": "0", "conn": first["ci"], "conn_token": first["ct"]}
    for changed, code in (({}, "unauthorized"), ({"conn": "x"}, "actor_not_found")):
        headers = site.headers(query, {"token": "old"}, **{**back, **changed})
        async with opening(site, headers) as refused:
            assert (await refused.refusal())["c"] == code
