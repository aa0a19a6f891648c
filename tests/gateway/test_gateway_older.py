"""The older form of the dialect, written from wire-protocol.md, A.9: other names of
headers, and WebSockets that say in their address what they want."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from gateway_streams import opening
from gateway_wire import PATIENCE, Answer, Serve, Site, Socket, Wire, eventually, get, get_or_create
from websockets.typing import Subprotocol

from rivet_ray import Actor, Event, Unauthorized, action
from rivet_ray.gateway import GatewaySettings

ASKED: list[Any] = []
RECORDS = (ASKED,)


@pytest.fixture(autouse=True)
def forget() -> None:
    ASKED.clear()


@dataclass
class State:
    seen: list[str] = field(default_factory=list[str])


class Guarded(Actor[State, None, Any, None, Any]):
    seen = Event[str]()

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        ASKED.append((params, dict(request.headers)))
        if not params or params.get("key") != "good":
            raise Unauthorized("Who are you?")
        return sorted(intents)

    def on_disconnect(self, conn: Any) -> None:
        self.state.seen.append(conn.params.get("name", ""))

    @action
    def whoami(self) -> Any:
        return [self.conn.auth, self.conn.params]

    @action
    def see(self, text: str) -> list[str]:
        self.state.seen.append(text)
        self.broadcast(Guarded.seen, text)
        return self.state.seen

    @action
    def params(self) -> Any:
        return self.conn.params

    @action
    def boom(self) -> None:
        raise ValueError("the password is hunter2")


class Public(Actor[None]):
    public = True

    @action
    def params(self) -> Any:
        return self.conn.params


ACTORS = {"guarded": Guarded, "public": Public}
A = get_or_create("guarded", "a+b &é")
PUBLIC = get_or_create("public", "a")
GOOD = {"key": "good"}


def older(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("X-RivetKit-", "X-AC-"): value for name, value in headers.items()}


async def call(
    site: Site, action: str, *args: Any, headers: dict[str, str], mount: str = ""
) -> Answer:
    body = site.wire.dumps({"a": list(args)})
    return await site.post(f"{mount}/actors/actions/{action}", headers, body)


# --- Headers ------------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["", "/registry"])
async def test_actions(serve: Serve, mount: str) -> None:
    site = await serve(ACTORS)
    headers = older(site.headers(A, GOOD))
    assert not any(name.startswith("X-RivetKit") for name in headers)
    answer = await call(site, "whoami", headers=headers, mount=mount)
    assert answer.output == [["action", "create", "get"], GOOD]
    answer = await call(site, "whoami", headers=older(site.headers(A, {"key": "bad"})))
    assert (answer.status, answer.code) == (401, "unauthorized")
    answer = await call(site, "whoami", headers=older(site.headers(get("guarded", "no"), GOOD)))
    assert (answer.status, answer.code) == (400, "actor_not_found")


async def test_resolve(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    answer = await site.post("/actors/resolve", older(site.headers(A, GOOD)), wire.dumps({}))
    assert answer.body == (await site.resolve(A, params=GOOD)).body
    answer = await site.post("/actors/resolve", older(site.headers(A)), wire.dumps({}))
    assert (answer.status, answer.code) == (401, "unauthorized")


async def test_event_streams_and_messages(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with opening(site, older(site.headers(A, GOOD)), mount="") as stream:
        assert stream.status == 200
        await stream.init()
        said = older(stream.headers_of_message())
        await stream.subscribe("seen", headers=said, mount="")
        assert await stream.ask(0, "whoami", headers=said, mount="") == [
            ["connect", "create", "get"],
            GOOD,
        ]
        await stream.call(1, "see", "x", headers=said, mount="")
        both = [await stream.next(), await stream.next()]
        assert {"ev": {"n": "seen", "a": ["x"]}} in both
        wrong = {**said, "X-AC-Conn-Token": "wrong"}
        answer = await stream.post(b"", said)
        assert (answer.status, answer.code) == (400, "malformed_message")
        answer = await stream.post(site.wire.dumps({"b": {"sr": {"e": "x", "s": True}}}), wrong)
        assert (answer.status, answer.code) == (400, "incorrect_conn_token")
    async with opening(site, older(site.headers(A)), mount="") as stream:
        assert (await stream.refusal())["c"] == "unauthorized"


async def test_the_newer_header_wins(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    other = "cbor" if wire.name == "json" else "json"
    wrong = {
        "X-AC-Query": json.dumps(get("guarded", "nobody")),
        "X-AC-Encoding": other,
        "X-AC-Conn-Params": '{"key":"bad"}',
    }
    right = site.headers(A, GOOD)
    for headers in ({**wrong, **right}, {**right, **wrong}):
        assert (await call(site, "params", headers=headers)).output == GOOD
        async with opening(site, headers) as stream:
            await stream.init()
            assert await stream.ask(0, "params") == GOOD
            wrong_names = {"X-AC-Actor": "no", "X-AC-Conn": "no", "X-AC-Conn-Token": "no"}
            said = {**wrong_names, "X-AC-Encoding": other, **stream.headers_of_message()}
            assert await stream.ask(1, "params", headers=said) == GOOD


async def test_each_header_by_itself(serve: Serve) -> None:
    """Which of them are older does not matter."""
    site = await serve(ACTORS)
    right = site.headers(A, GOOD)
    for name in ("X-RivetKit-Query", "X-RivetKit-Encoding", "X-RivetKit-Conn-Params"):
        mixed = {key: value for key, value in right.items() if key != name}
        mixed |= older({name: right[name]})
        assert (await call(site, "params", headers=mixed)).output == GOOD


async def test_what_is_missing_is_named_as_ever(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.post("/actors/resolve", {"X-AC-Encoding": "json"})
    report = json.loads(answer.raw)
    assert [issue["path"] for issue in report["error"]["issues"]] == [["x-rivetkit-query"]]


@pytest.mark.parametrize("prefix", ["X-AC-", "X-RivetKit-"])
async def test_internal_headers_stay_outside(serve: Serve, prefix: str) -> None:
    """A.1.1: neither believed nor shown to `on_auth`, under either name."""
    site = await serve(ACTORS)
    internal = {f"{prefix}Auth-Data": '["root"]', f"{prefix}Expose-Internal-Error": "true"}
    headers = {**older(site.headers(A, GOOD)), **internal}
    answer = await call(site, "whoami", headers=headers)
    assert answer.output == [["action", "create", "get"], GOOD]
    answer = await call(site, "boom", headers=headers)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"hunter2" not in answer.raw
    for _, seen in await site.take(__name__, "ASKED"):
        assert not {name for name in seen if "auth-data" in name or "expose" in name}


# --- WebSockets ---------------------------------------------------------------------


@asynccontextmanager
async def at(
    site: Site, address: str, mount: str = "", protocols: list[Subprotocol] | None = None
) -> AsyncIterator[Socket]:
    """A WebSocket to an address that says what it wants; nothing of it has been read."""
    async with site.offering(protocols, mount, query=f"?{address}") as found:
        yield found


def asking(site: Site, query: Any, encoding: str | None = None) -> str:
    return f"encoding={encoding or site.wire.name}&query={quote(json.dumps(query), safe='')}"


@pytest.mark.parametrize("mount", ["", "/registry"])
async def test_a_connection(serve: Serve, mount: str) -> None:
    site = await serve(ACTORS)
    async with at(site, asking(site, A), mount) as socket:
        assert socket.connection.subprotocol is None
        await socket.quiet()
        assert await site.take(__name__, "ASKED") == [], "parameters come first"
        await socket.send({"i": {"p": {**GOOD, "name": "ann"}}})
        assert set(await socket.init()) == {"ai", "ci", "ct"}
        intents, params = await socket.ask(0, "whoami")
        assert (intents, params) == (["connect", "create", "get"], {**GOOD, "name": "ann"})
        await socket.subscribe("seen")
        await socket.call(1, "see", "x")
        both = [await socket.next(), await socket.next()]
        assert {"ev": {"n": "seen", "a": ["x"]}} in both
        assert {"ar": {"i": 1, "o": ["x"]}} in both

    async def left() -> bool:
        return "ann" in (await site.call(A, "see", "y", params=GOOD)).output

    await eventually(left)


@pytest.mark.parametrize("first", [{"i": {}}, {"i": {"p": None}}, {"i": {"p": 7, "more": 1}}])
async def test_parameters(serve: Serve, first: Any) -> None:
    site = await serve(ACTORS)
    async with at(site, asking(site, PUBLIC)) as socket:
        await socket.send(first)
        await socket.init()
        assert await socket.ask(0, "params") == first["i"].get("p")


async def test_messages_may_follow_the_first_at_once(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with at(site, asking(site, PUBLIC)) as socket:
        await socket.send({"i": {"p": "x"}})
        await socket.call(0, "params")
        await socket.init()
        assert await socket.answer(0) == "x"


async def test_subprotocols_win(serve: Serve) -> None:
    """Who says it in both ways is a newer client, and sends no first message."""
    site = await serve(ACTORS)
    address = asking(site, get("guarded", "nobody"))
    async with at(site, address, protocols=site.protocols(PUBLIC, "x")) as socket:
        await socket.init()
        assert await socket.ask(0, "params") == "x"


async def test_the_last_subprotocol_is_answered(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with at(site, asking(site, PUBLIC), protocols=[Subprotocol("rivetkit")]) as socket:
        assert socket.connection.subprotocol == "rivetkit"
        await socket.send({"i": {}})
        await socket.init()


async def refused(site: Site, address: str, first: Any = ...) -> tuple[int | None, str, list[Any]]:
    async with at(site, address) as socket:
        if first is not ...:
            await socket.connection.send(first)
        return await socket.closed()


@pytest.mark.parametrize("params", [..., None, {}, {"key": "bad"}])
async def test_on_auth_says_no(serve: Serve, params: Any) -> None:
    site = await serve(ACTORS)
    first = site.wire.frame({"b": {"i": {} if params is ... else {"p": params}}})
    code, reason, before = await refused(site, asking(site, A), first)
    assert (code, reason) == (1011, "unauthorized")
    assert [set(message) for message in before] == [{"e"}]
    assert before[0]["e"]["c"] == "unauthorized"
    assert (await site.resolve(get("guarded", "a+b &é"), params=GOOD)).code == "actor_not_found"


async def test_addresses_that_are_no_good(serve: Serve) -> None:
    site = await serve(ACTORS)
    good = site.wire.name
    for address, reason, told in (
        ("", "invalid_query_json", False),
        ("other=1", "invalid_query_json", False),
        (f"encoding={good}", "invalid_query_json", True),
        ("query=%7B%7D", "invalid_request", False),
        (asking(site, A, "bare"), "invalid_request", False),
        (f"encoding={good}&query=%7B%7D", "invalid_request", True),
        (f"encoding={good}&query=nope", "invalid_query_json", True),
        (f"encoding={good}&query=%ff", "invalid_query_json", False),
    ):
        code, said, before = await refused(site, address)
        assert (code, said) == (1011, reason), address
        assert [message["e"]["c"] for message in before] == [reason] * told, address


async def test_a_first_message_that_is_no_good(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    frames = [
        wire.frame({"b": {"ar": {"i": 0, "n": "params", "a": []}}}),
        wire.frame({"b": {}}),
        wire.frame({}),
        b"\xff" if wire.name == "json" else "{}",
        "{" if wire.name == "json" else b"\xff",
    ]
    for frame in frames:
        code, reason, before = await refused(site, asking(site, PUBLIC), frame)
        assert (code, reason) == (1011, "malformed_message"), frame
        assert [message["e"]["c"] for message in before] == ["malformed_message"]


async def test_a_first_message_that_is_too_long(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    for size, reason in ((4_095, "invalid_params"), (70_000, "message_too_long")):
        frame = wire.frame({"b": {"i": {"p": "x" * size}}})
        code, said, before = await refused(site, asking(site, PUBLIC), frame)
        assert (code, said) == (1011, reason), size
        assert [message["e"]["c"] for message in before] == [reason]
    async with at(site, asking(site, PUBLIC)) as socket:
        await socket.send({"i": {"p": "x" * 4_094}})  # with its quotes, 4,096 bytes of JSON
        await socket.init()


async def test_a_first_message_that_does_not_come(serve: Serve) -> None:
    assert GatewaySettings().params_timeout < 2 * PATIENCE
    site = await serve(ACTORS, settings=GatewaySettings(params_timeout=0.05))
    code, reason, before = await refused(site, asking(site, PUBLIC))
    assert (code, reason) == (1011, "invalid_request")
    assert before[0]["e"]["c"] == "invalid_request"
    async with at(site, asking(site, PUBLIC)) as socket:
        await socket.send({"i": {}})
        await socket.init()


async def test_a_client_that_leaves_before_its_first_message(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with at(site, asking(site, PUBLIC)) as socket:
        socket.abort()
    async with at(site, asking(site, PUBLIC)):
        pass
    assert (await site.call(PUBLIC, "params")).output is None
