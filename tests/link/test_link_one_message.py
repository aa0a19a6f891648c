"""One message that does not get through a link fails alone, whatever its kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from link_worlds import (
    PATIENCE,
    Connect,
    Counter,
    Gateway,
    Listener,
    Raw,
    Serve,
    World,
    eventually,
    fake_host,
)

from rivet_ray.errors import (
    InternalError,
    MessageTooLong,
    Outcome,
    RivetError,
)
from rivet_ray.link import LinkClient, LinkGarbled, LinkSettings
from rivet_ray.link.frames import decode_to_gateway, decode_to_host
from rivet_ray.protocol.caller import Caller, Message
from rivet_ray.protocol.port import (
    Ask,
    Attach,
    Attached,
    Call,
    Close,
    Failed,
    Reply,
    Taken,
    ToGateway,
)
from rivet_ray.protocol.raw import RawArrived, RawData, RawEnd, RawOpen, RawRequest, RawStart
from rivet_ray.runtime import Tunnel
from rivet_ray.runtime.flow import LANE
from rivet_ray.testing import ManualClock

SMALL = LinkSettings(frame_limit=2000)
ROUNDS = LANE // 50_000 + 2
"""More pieces of 50,000 bytes than may be under way at once."""


def fetch(path: str) -> RawRequest:
    return RawRequest("GET", path.encode(), b"", [], "http")


SOCKET = RawRequest("GET", b"/", b"", [], "ws", None, [])


def opened(gateway: Gateway, actor: str, what: RawRequest) -> Tunnel:
    return gateway.calls.tunnel(actor, what, Caller())


async def rest(tunnel: Tunnel) -> bytes:
    """What still comes, until the end."""
    found = b""
    async with asyncio.timeout(PATIENCE):
        while (piece := await tunnel.take()) is not None:
            found += piece.data
    return found


@asynccontextmanager
async def neighbours(world: World, gateway: Gateway) -> AsyncIterator[None]:
    """Calls before, between and after on the same link: all of them are answered."""
    actor = await world.actor("neighbour")
    before = await gateway.call(actor, "increment")
    between = [asyncio.create_task(gateway.call(actor, "increment")) for _ in range(3)]
    yield
    assert await asyncio.gather(*between) == [before + 1, before + 2, before + 3]
    assert await gateway.call(actor, "increment") == before + 4
    assert (gateway.lost, world.server.statistics.drops) == ([], {})


# --- Messages that cannot be sent -------------------------------------------------


async def test_a_claim_whose_answer_is_too_long_fails_alone(connect: Connect) -> None:
    world, first = await connect(SMALL)
    other = await world.gateway()
    actor = await world.actor()
    await first.calls.attach(actor, "c1", "token", Caller(), Listener())
    for number in range(30):
        first.calls.subscribe(actor, "c1", f"{number}" * 50, True)
    await first.call(actor, "increment")
    async with neighbours(world, other):
        with pytest.raises(MessageTooLong) as caught:
            async with asyncio.timeout(PATIENCE):
                await other.calls.claim(actor, "c1", "token", Caller(), Listener(), 0)
        assert caught.value.outcome is Outcome.NOT_STARTED
    assert not other.calls.holds("c1")


async def test_a_subscription_that_is_too_long_closes_its_connection(connect: Connect) -> None:
    world, gateway = await connect(SMALL)
    actor = await world.actor()
    long, other = Listener(), Listener()
    await gateway.calls.attach(actor, "c1", "token", Caller(), long)
    await gateway.calls.attach(actor, "c2", "token", Caller(), other)
    async with neighbours(world, gateway):
        gateway.calls.subscribe(actor, "c1", "x" * 3000, True)
        gateway.calls.subscribe(actor, "c2", "counted", True)
        await eventually(lambda: long.seen[1:])
    assert long.seen == ["attached", (1009, "message_too_long")]
    await gateway.call(actor, "increment")
    assert other.seen == ["attached", ("counted", 1)]


async def test_what_a_client_said_elsewhere_and_is_too_long_fails_alone(connect: Connect) -> None:
    world, holder = await connect()
    [connection] = world.server._connections
    connection._settings = SMALL
    other = await world.gateway()
    actor = await world.actor()
    await holder.calls.attach(actor, "c1", "token", Caller(), Listener())
    async with neighbours(world, holder):
        said = Ask(1, "echo", b"x" * 3000)
        with pytest.raises(MessageTooLong) as caught:
            async with asyncio.timeout(PATIENCE):
                await other.calls.forward(actor, "c1", "token", said)
        assert caught.value.outcome is Outcome.NOT_STARTED
    assert holder.calls.holds("c1")


async def test_a_piece_that_is_too_long_closes_its_socket(connect: Connect) -> None:
    world, gateway = await connect(SMALL)
    actor = await world.actor()
    for _ in range(ROUNDS):  # What did not go out is not under way for ever.
        tunnel = opened(gateway, actor, SOCKET)
        assert await tunnel.started() is not None
        assert await tunnel.give(b"50000")
        assert await rest(tunnel) == b""
        assert tunnel.closing is not None
        assert (tunnel.closing.code, tunnel.closing.reason) == (1009, "message_too_long")
    async with neighbours(world, gateway):
        tunnel = opened(gateway, actor, SOCKET)
        assert await tunnel.started() is not None
        assert await tunnel.give(b"50000")
        assert await rest(tunnel) == b""
    await eventually(lambda: len(Counter.codes) == ROUNDS + 1)
    assert set(Counter.codes) == {1009}
    assert await rest(opened(gateway, actor, fetch("/"))) == b"short"


async def test_a_piece_for_an_actor_that_is_too_long_closes_its_socket(connect: Connect) -> None:
    world, gateway = await connect(SMALL)
    actor = await world.actor()
    async with neighbours(world, gateway):
        for _ in range(ROUNDS):
            tunnel = opened(gateway, actor, SOCKET)
            assert await tunnel.started() is not None
            async with asyncio.timeout(PATIENCE):
                assert await tunnel.give(b"x" * 50_000)
            assert await rest(tunnel) == b""
            assert tunnel.closing is not None
            assert (tunnel.closing.code, tunnel.closing.reason) == (1009, "message_too_long")
        await eventually(lambda: len(Counter.codes) == ROUNDS)
    assert set(Counter.codes) == {1009}


async def test_a_response_that_is_too_long_is_broken_off(connect: Connect) -> None:
    world, gateway = await connect(SMALL)
    actor = await world.actor()
    async with neighbours(world, gateway):
        tunnel = opened(gateway, actor, fetch("/long"))
        assert await tunnel.started() is not None
        assert await rest(tunnel) == b""
        assert tunnel.closing is not None
    assert await rest(opened(gateway, actor, fetch("/"))) == b"short"


async def test_a_head_that_is_too_long_ends_its_request_at_the_actor_too(
    connect: Connect,
) -> None:
    world, gateway = await connect(SMALL)
    actor = await world.actor()
    async with neighbours(world, gateway):
        with pytest.raises(MessageTooLong) as caught:
            await opened(gateway, actor, fetch("/head")).started()
        assert caught.value.outcome is Outcome.TOOK_EFFECT
    [session] = world.host._sessions
    await eventually(lambda: not session._exchanges)


async def test_an_application_that_is_loose_with_flags_hurts_nobody(connect: Connect) -> None:
    """`more_body: 1` was a piece that no gateway could read."""
    world, gateway = await connect()
    actor = await world.actor()
    async with neighbours(world, gateway):
        tunnel = opened(gateway, actor, fetch("/loose"))
        assert await tunnel.started() is not None
        assert await rest(tunnel) == b"one two"


def test_no_frame_is_too_short_for_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1024"):
        LinkSettings(frame_limit=1023)


# --- Messages that cannot be read -------------------------------------------------

HEAD = msgspec.msgpack.encode


def wrong(*fields: object) -> msgspec.Raw:
    return msgspec.Raw(HEAD(fields))


NOT_TEXT = msgspec.Raw(b"\xa1\xff")
ENDED = (1011, "internal_error")


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        (wrong("call", 7, "a", NOT_TEXT, b"\x90"), ["invalid_request"]),
        (wrong("attach", 7, "a", 3), ["invalid_request"]),
        (wrong("forward", 7, "a", "c", "t", ["ask", "x"]), ["invalid_request"]),
        (wrong("raw_open", 7, "a", None), ["invalid_request"]),
        (wrong("cancel", "x"), []),
        (wrong("subscribe", "c1", 4, True), [Close("c1", *ENDED)]),
        (wrong("detach", "c1", "keep"), []),
        (wrong("taken", 7, "yes"), []),
        (wrong("raw_data", 7, b"xy", 1), [RawArrived(130), RawEnd(7, *ENDED)]),
        (wrong("raw_data", 7, "xy"), [RawEnd(7, *ENDED)]),
        (wrong("raw_taken", 7, "many"), [RawEnd(7, *ENDED)]),
        (wrong("raw_end", 7, 1000.5), [RawEnd(7, *ENDED)]),
    ],
)
async def test_a_message_that_a_host_cannot_read_fails_alone(
    serve: Serve, message: msgspec.Raw, answers: list[Any]
) -> None:
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    before = Call(1, await world.actor(), "increment", b"\x90")
    after = Call(2, await world.actor(), "increment", b"\x90")
    raw.send_value([before, message, after])
    found: list[Any] = []
    while Reply(2, b"\x02") not in found:
        payload = await raw.receive()
        assert payload is not None, "the link was ended"
        found += decode_to_gateway(payload)
    assert [item for item in found if isinstance(item, Reply)] == [
        Reply(1, b"\x01"),
        Reply(2, b"\x02"),
    ]
    others = [_code_of(item) for item in found if not isinstance(item, Reply)]
    assert others == answers
    assert world.server.statistics.unreadable == 1
    assert world.server.statistics.drops == {}
    await raw.close()


def _code_of(item: Any) -> Any:
    if isinstance(item, Failed):
        assert (item.call, item.failure.outcome) == (7, "not_started")
        return item.failure.code
    return item


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[LinkClient, Raw]]:
    """A gateway's end of a link to a host that a test plays."""
    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        connecting = asyncio.create_task(link.connect())
        raw = await arrived
        await raw.prove_host()
        await connecting
        yield link, raw
        await link.close()


@pytest.mark.parametrize(
    ("message", "told", "answers"),
    [
        (wrong("reply", 7, "text"), ["took_effect"], []),
        (wrong("failed", 7, 3), ["unknown"], []),
        (wrong("attached", 7, "x"), ["unknown"], []),
        (wrong("deliver", "a", "e", 3, "c1"), [Close("c1", 1012, "resync")], []),
        (wrong("close", "c1", "x", ""), [Close("c1", 1011, "")], []),
        (wrong("handed", 7, "c1", 3), [], [Taken(7, False)]),
        (wrong("raw_start", 7, "200", []), [RawEnd(7, *ENDED)], [RawEnd(7, *ENDED)]),
        (
            wrong("raw_data", 7, b"xy", 1),
            [RawEnd(7, *ENDED)],
            [RawArrived(130), RawEnd(7, *ENDED)],
        ),
    ],
)
async def test_a_message_that_a_gateway_cannot_read_fails_alone(
    message: msgspec.Raw, told: list[Any], answers: list[Message]
) -> None:
    async with linked() as (link, raw):
        received: list[Any] = []
        link.open(received.append)
        raw.send_value([Reply(1, b"1"), message, Reply(2, b"2")])
        await eventually(lambda: Reply(2, b"2") in received)
        assert [received[0], received[-1]] == [Reply(1, b"1"), Reply(2, b"2")]
        failed = [
            (item.call, item.failure.code, item.failure.outcome)
            if isinstance(item, Failed)
            else item
            for item in received[1:-1]
        ]
        expected = [(7, "internal_error", item) if isinstance(item, str) else item for item in told]
        assert failed == expected
        sent: list[Any] = []
        while len(sent) < len(answers):
            payload = await raw.receive()
            assert payload is not None
            sent += decode_to_host(payload)
        assert sent == answers
        assert link.connected
        assert link.statistics.unreadable == 1


@pytest.mark.parametrize(
    "message",
    [
        wrong("deliver", "a", "e", 3, None),
        wrong("raw_arrived", "many"),
        wrong("reply", "seven", b""),
        wrong("of a later version", 7),
    ],
)
async def test_a_message_of_which_nobody_can_be_told_ends_the_link(message: msgspec.Raw) -> None:
    """A gap would go unseen otherwise (promise C5)."""
    lost: list[Exception | None] = []
    async with linked() as (link, raw):
        link.on_lost = lost.append
        link.open(lambda _: None)
        raw.send_value([message])
        await eventually(lambda: lost)
        assert isinstance(lost[0], LinkGarbled)


# --- Messages that break their receiver ---------------------------------------------


async def test_a_sink_that_raises_fails_its_own_connection(connect: Connect) -> None:
    class Broken(Listener):
        def attached(self, message: Attached) -> None:
            raise ZeroDivisionError("a secret text")

    world, gateway = await connect()
    actor = await world.actor()
    async with neighbours(world, gateway):
        with pytest.raises(RivetError) as caught:
            async with asyncio.timeout(PATIENCE):
                await gateway.calls.attach(actor, "c1", "token", Caller(), Broken())
    assert caught.value.code == InternalError.code
    assert not gateway.calls.holds("c1")
    await eventually(lambda: "c1" in Counter.gone)


@pytest.mark.parametrize(
    ("action", "outcome"), [("increment", "took_effect"), ("nothing", "not_started")]
)
async def test_an_answer_that_raises_fails_its_own_call_at_once(
    connect: Connect, action: str, outcome: str
) -> None:
    """It used to wait for the timeout of its call."""
    taken: list[ToGateway] = []

    def answer(message: Reply | Failed) -> None:
        taken.append(message)
        if len(taken) == 1:
            raise ZeroDivisionError("a secret text")

    world, gateway = await connect()
    actor = await world.actor()
    async with neighbours(world, gateway):
        gateway.calls.start(actor, action, b"\x90", answer)
        await eventually(lambda: len(taken) == 2)
    failed = taken[1]
    assert isinstance(failed, Failed)
    assert (failed.failure.code, failed.failure.outcome) == (InternalError.code, outcome)
    assert "secret" not in failed.failure.message


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        (RawStart(7, 200, []), [RawEnd(7, *ENDED)]),
        (RawData(7, b"x"), [RawEnd(7, *ENDED)]),
        (Attached(7), []),
        (Reply(7, b""), []),
    ],
)
async def test_a_gateway_that_raises_keeps_its_link(
    message: ToGateway, answers: list[Message]
) -> None:
    def receive(message: ToGateway) -> None:
        raise ZeroDivisionError

    async with linked() as (link, raw):
        session = link.open(receive)
        raw.send_value([message])
        await eventually(lambda: link.statistics.messages_in == 1)
        last = Attach(9, "a", "c", "t", Caller())
        session.send(last)
        session.send(RawOpen(10, "a", SOCKET, Caller()))
        sent: list[Any] = []
        while last not in sent:
            payload = await raw.receive()
            assert payload is not None
            sent += decode_to_host(payload)
        assert sent[: len(answers)] == answers
        assert link.connected
