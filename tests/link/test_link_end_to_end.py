"""A real host behind a link does what it does without one."""

from __future__ import annotations

import asyncio

import pytest
from link_worlds import PATIENCE, SECRET, Connect, Counter, Listener, Serve, World, eventually

from rivet_ray.errors import ActionNotFound, InvalidRequest, MessageTooLong, Outcome, UserError
from rivet_ray.link import LinkClient, LinkError, LinkServer, LinkSettings
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Call, Failed, Hosting, ToGateway


async def test_calls(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    assert [await gateway.call(actor, "increment", 5) for _ in range(3)] == [5, 10, 15]
    assert world.server.links == 1


async def test_errors_arrive_as_what_they_were(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    with pytest.raises(UserError) as caught:
        await gateway.call(actor, "fail")
    assert (caught.value.code, caught.value.metadata) == ("refused", {"why": "because"})
    assert caught.value.outcome is Outcome.TOOK_EFFECT
    with pytest.raises(ActionNotFound):
        await gateway.call(actor, "nothing")


async def test_a_connection_gets_its_events_and_is_closed(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    listener = Listener()
    await gateway.calls.attach(actor, "c1", "token", Caller(), listener)
    gateway.calls.subscribe(actor, "c1", "counted", True)
    for _ in range(3):
        await gateway.call(actor, "increment")
    await eventually(lambda: len(listener.seen) == 4)
    assert listener.seen == ["attached", ("counted", 1), ("counted", 2), ("counted", 3)]
    gateway.calls.detach("c1", listener)
    await eventually(lambda: "c1" in Counter.gone)


async def test_more_events_than_the_first_credit(connect: Connect) -> None:
    """Credit goes back over the link too."""
    world, gateway = await connect()
    actor = await world.actor()
    listener = Listener()
    await gateway.calls.attach(actor, "c1", "token", Caller(), listener)
    gateway.calls.subscribe(actor, "c1", "counted", True)
    await asyncio.gather(*(gateway.call(actor, "increment") for _ in range(2500)))
    await eventually(lambda: len(listener.seen) == 2501)
    assert listener.seen[1:] == [("counted", number + 1) for number in range(2500)]


async def test_a_thousand_calls_at_once_in_few_frames(connect: Connect) -> None:
    """What is given in one tick travels together."""
    world, gateway = await connect()
    actors = [await world.actor(str(number)) for number in range(10)]
    results = await asyncio.gather(
        *(gateway.call(actors[number % 10], "increment") for number in range(1000))
    )
    assert sorted(results) == sorted([*range(1, 101)] * 10)
    assert gateway.link.statistics.messages_out == 1000
    assert gateway.link.statistics.frames_out < 20


async def test_five_megabytes_each_way(connect: Connect) -> None:
    world, gateway = await connect()
    text = "x" * 5_000_000
    assert await gateway.call(await world.actor(), "echo", text) == text
    assert gateway.link.statistics.bytes_in > 5_000_000


async def test_two_gateways_have_sessions_of_their_own(serve: Serve) -> None:
    world = await serve()
    one, other = await world.gateway(), await world.gateway()
    actor = await world.actor()
    listener = Listener()
    await one.calls.attach(actor, "c1", "token", Caller(), listener)
    assert await other.call(actor, "increment") == 1
    await other.link.close()
    await eventually(lambda: world.server.links == 1)
    assert await one.call(actor, "increment") == 2
    assert "c1" not in Counter.gone


# --- What does not fit ----------------------------------------------------------


async def test_a_result_that_is_too_long_fails_its_own_call_only(connect: Connect) -> None:
    world, gateway = await connect(LinkSettings(frame_limit=2000))
    actor = await world.actor()
    small = [gateway.call(actor, "text", 10) for _ in range(5)]
    large = gateway.call(actor, "text", 3000)
    *texts, fault = await asyncio.gather(*small, large, return_exceptions=True)
    assert texts == ["x" * 10] * 5
    assert isinstance(fault, MessageTooLong)
    assert fault.outcome is Outcome.TOOK_EFFECT
    assert world.server.statistics.unsendable == 1


async def test_a_call_that_is_too_long_never_starts(connect: Connect) -> None:
    world, gateway = await connect(LinkSettings(frame_limit=2000))
    actor = await world.actor()
    with pytest.raises(MessageTooLong) as caught:
        await gateway.call(actor, "echo", "x" * 3000)
    assert caught.value.outcome is Outcome.NOT_STARTED
    with pytest.raises(InvalidRequest):
        await gateway.call(actor, "\ud800")
    assert await gateway.call(actor, "increment") == 1


async def test_an_event_that_is_too_long_ends_the_connections_that_want_it(
    connect: Connect,
) -> None:
    """C5: the gap is said to whom it concerns, and the link stays for everybody else."""
    world, gateway = await connect(LinkSettings(frame_limit=2000))
    actor, other = await world.actor(), await world.actor("other")
    wants, wants_not, elsewhere = Listener(), Listener(), Listener()
    for listener, identity, where, event in (
        (wants, "c1", actor, "texts"),
        (wants_not, "c2", actor, "counted"),
        (elsewhere, "c3", other, "texts"),
    ):
        await gateway.calls.attach(where, identity, "token", Caller(), listener)
        gateway.calls.subscribe(where, identity, event, True)
    small = [gateway.call(actor, "increment") for _ in range(3)]
    *counts, shouted = await asyncio.gather(*small, gateway.call(actor, "shout", 4096))
    assert (counts, shouted) == ([1, 2, 3], None)
    await eventually(lambda: wants.seen[1:])
    assert wants.seen == ["attached", (1012, "resync")]
    assert await gateway.call(other, "shout", 10) is None
    await eventually(lambda: elsewhere.seen[1:])
    assert elsewhere.seen == ["attached", ("texts", "x" * 10)]
    assert wants_not.seen == ["attached", *(("counted", count) for count in counts)]
    assert (gateway.lost, world.server.statistics.drops) == ([], {})
    assert world.server.statistics.unsendable == 1


async def test_an_event_for_one_connection_that_cannot_be_carried(connect: Connect) -> None:
    """However it cannot: here its name is no text that UTF-8 can hold."""
    world, gateway = await connect()
    actor = await world.actor()
    told, other = Listener(), Listener()
    await gateway.calls.attach(actor, "c1", "token", Caller(), told)
    await gateway.calls.attach(actor, "c2", "token", Caller(), other)
    assert await gateway.call(actor, "whisper", "c1") is None
    await eventually(lambda: told.seen[1:])
    assert told.seen == ["attached", (1012, "resync")]
    assert other.seen == ["attached"]
    assert await gateway.call(actor, "increment") == 1


async def test_a_session_that_raises_answers_the_call(serve: Serve) -> None:
    class Broken:
        def open(self, receive: object) -> Broken:
            return self

        def send(self, message: object) -> None:
            raise ZeroDivisionError("a secret text")

        def missed(self, event: object) -> None:
            pass

        def close(self) -> None:
            pass

    world = World()
    world.server = LinkServer(Broken(), SECRET, clock=world.clock)
    await world.start()
    gateway = await world.gateway()
    answers: list[ToGateway] = []
    gateway.calls.start("a", "b", b"\x90", answers.append)
    await eventually(lambda: answers)
    [answer] = answers
    assert isinstance(answer, Failed)
    assert (answer.failure.code, answer.failure.outcome) == ("internal_error", "unknown")
    assert "secret" not in answer.failure.message
    await world.close()


# --- The end --------------------------------------------------------------------


async def test_a_cut_connection_ends_the_session_and_tells_the_gateway(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    await gateway.calls.attach(actor, "c1", "token", Caller(), Listener())
    waiting = [gateway.calls.start(actor, "wait", b"\x90", print) for _ in range(3)]
    assert gateway.link.connected
    await eventually(lambda: world.server.statistics.messages_in >= 1 + len(waiting))
    [connection] = world.server._connections
    connection._abort()
    await eventually(lambda: gateway.lost)
    assert len(gateway.lost) == 1
    assert not gateway.link.connected
    await eventually(lambda: not world.host._sessions)
    assert "c1" not in Counter.gone  # kept: its gateway may come back

    gateway.calls.start(actor, "increment", b"\x90", print)
    assert gateway.link.statistics.late == 1
    again = await world.gateway()
    assert await again.call(actor, "increment") == 1


async def test_a_gateway_that_vanishes_ends_its_session(connect: Connect) -> None:
    world, gateway = await connect()
    await gateway.calls.attach(await world.actor(), "c1", "token", Caller(), Listener())
    connection = gateway.link._connection
    assert connection is not None
    assert connection._transport is not None
    connection._transport.abort()
    await eventually(lambda: not world.host._sessions)
    assert gateway.lost == [None]
    assert "c1" not in Counter.gone


async def test_closing_writes_what_was_sent_and_tells_nobody(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    for _ in range(10):
        gateway.calls.start(actor, "increment", b"\x90", print)
    gateway.calls.close()
    await gateway.link.close()
    await gateway.link.close()
    other = await world.gateway()
    await eventually(lambda: world.server.links == 1)
    assert await other.call(actor, "increment") == 11
    assert gateway.lost == []


async def test_nothing_is_received_after_close(serve: Serve) -> None:
    world = await serve()
    link = LinkClient(world.server.address, SECRET, clock=world.clock)
    await link.connect()
    received: list[ToGateway] = []
    session = link.open(received.append)
    session.send(Call(1, await world.actor(), "increment", b"\x90"))
    session.close()
    await link.close()
    assert received == []


async def test_a_server_that_closes_writes_the_last_replies(connect: Connect) -> None:
    world, gateway = await connect()
    actor = await world.actor()
    calls = [asyncio.create_task(gateway.call(actor, "increment")) for _ in range(20)]
    await eventually(lambda: world.server.statistics.messages_in == 20)
    await world.host.close()
    await world.server.close()
    assert await asyncio.gather(*calls) == [*range(1, 21)]
    await eventually(lambda: gateway.lost == [None])
    with pytest.raises(LinkError, match="cannot be reached"):
        await world.gateway()


async def test_a_link_connects_once_and_has_one_session(serve: Serve) -> None:
    world = await serve()
    link = LinkClient(world.server.address, SECRET, clock=world.clock)
    with pytest.raises(RuntimeError, match="connect the LinkClient"):
        link.open(print)
    await link.connect()
    with pytest.raises(RuntimeError, match="connects once"):
        await link.connect()
    hosting: Hosting = link
    hosting.open(print)
    with pytest.raises(RuntimeError, match="one session"):
        link.open(print)
    await link.close()


async def test_ports_come_from_the_range(serve: Serve) -> None:
    first = await serve()
    taken = int(first.server.address.rpartition(":")[2])
    world = World()
    with pytest.raises(LinkError, match="No port"):
        await world.server.start("127.0.0.1", range(taken, taken + 1))
    await world.server.start("127.0.0.1", range(taken, taken + 50), advertise="localhost")
    name, _, port = world.server.address.rpartition(":")
    assert name == "localhost"
    assert taken < int(port) < taken + 50
    with pytest.raises(RuntimeError, match="has been started"):
        await world.server.start()
    async with asyncio.timeout(PATIENCE):
        await world.close()
        await world.server.close()
