"""Over real sockets: nobody gets in without the secret, and nothing but a proof is read."""

from __future__ import annotations

import asyncio
import logging
import random

import msgspec
import pytest
from link_worlds import SECRET, Serve, eventually, fake_host

from rivet_ray.link import (
    HandshakeFailed,
    LinkClient,
    LinkError,
    LinkGarbled,
    LinkSettings,
    VersionMismatch,
    WrongSecret,
)
from rivet_ray.link.frames import frame
from rivet_ray.link.handshake import VERSION, Handshake
from rivet_ray.protocol.port import Call
from rivet_ray.testing import ManualClock

OTHER = b"another secret, just as long as it has to be"


async def test_a_gateway_with_another_secret_is_told(serve: Serve) -> None:
    world = await serve()
    link = LinkClient(world.server.address, OTHER, clock=world.clock)
    with pytest.raises(WrongSecret, match="need the same secret"):
        await link.connect()
    assert not link.connected
    await eventually(lambda: world.server.statistics.drops == {WrongSecret.code: 1})
    assert not world.host._sessions


async def test_a_host_with_another_secret_is_found_out(serve: Serve) -> None:
    """Even if it lets everybody in, the gateway does not stay."""
    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        connecting = asyncio.create_task(link.connect())
        raw = await arrived
        rogue = Handshake("host", OTHER)
        raw.send(rogue.hello())
        hello = await raw.receive()
        assert hello is not None
        rogue.receive(hello)
        raw.send(rogue._proof("host"))
        with pytest.raises(WrongSecret):
            await connecting
    assert link.statistics.opened == 0
    assert clock.pending == 0


async def test_another_version_is_named_on_both_sides(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = await serve()
    raw = await world.raw()
    raw.send(Handshake("gateway", SECRET, version=VERSION + 1).hello())
    assert await raw.ended()
    assert (
        f"The peer speaks version {VERSION + 1} of the link, this host speaks {VERSION}"
        in caplog.text
    )
    await raw.close()

    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        connecting = asyncio.create_task(link.connect())
        (await arrived).send(Handshake("host", SECRET, version=VERSION + 1).hello())
        with pytest.raises(
            VersionMismatch, match=rf"version {VERSION + 1} .* this gateway speaks {VERSION}"
        ):
            await connecting


async def test_a_reflecting_peer_fails(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    hello = await raw.receive()
    assert hello is not None
    raw.send(hello)
    assert await raw.ended()
    await eventually(lambda: world.server.statistics.drops == {HandshakeFailed.code: 1})
    await raw.close()


async def test_recorded_proofs_are_refused(serve: Serve) -> None:
    world = await serve()
    first = await world.raw()
    shake = Handshake("gateway", SECRET)
    hello = await first.receive()
    assert hello is not None
    proof = shake.receive(hello)
    assert proof is not None
    for raw in (first, await world.raw()):
        raw.send(shake.hello())
        raw.send(proof)
    await eventually(lambda: world.server.links == 1)
    await eventually(lambda: world.server.statistics.drops == {WrongSecret.code: 1})
    await first.close()
    await raw.close()


async def test_a_host_that_says_nothing_is_given_up(serve: Serve) -> None:
    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        connecting = asyncio.create_task(link.connect())
        await arrived
        await clock.advance(4.9)
        assert not connecting.done()
        await clock.advance(0.2)
        with pytest.raises(HandshakeFailed, match="within 5 s"):
            await connecting
    assert clock.pending == 0


async def test_a_gateway_that_says_nothing_is_thrown_out(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    await eventually(lambda: world.server._connections)
    await world.clock.advance(5)
    assert await raw.ended()
    assert world.server.statistics.drops == {HandshakeFailed.code: 1}
    await raw.close()


async def test_a_host_that_cannot_be_reached_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    link = LinkClient("127.0.0.1:9", SECRET, clock=clock)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    class Loop:
        def __getattr__(self, name: str) -> object:
            return never if name == "create_connection" else getattr(loop, name)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("rivet_ray.link.client.asyncio.get_running_loop", Loop)
    connecting = loop.create_task(link.connect())
    await asyncio.sleep(0)
    monkeypatch.undo()
    await clock.advance(5)
    with pytest.raises(LinkError, match="did not answer within 5 s"):
        await connecting


async def test_a_cancelled_connect_leaves_nothing(serve: Serve) -> None:
    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        connecting = asyncio.create_task(link.connect())
        raw = await arrived
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await raw.ended()
    assert clock.pending == 0


async def test_a_close_meanwhile_fails_the_connect(serve: Serve) -> None:
    world = await serve()
    link = LinkClient(world.server.address, SECRET, clock=world.clock)
    connecting = asyncio.create_task(link.connect())
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(LinkError, match="closed while"):
        await connecting
    await eventually(lambda: world.server._connections == set())


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 64,
    frame(b"\x91" * 1000),
    frame(b"\xdd\xff\xff\xff\xff"),
    *(random.Random(seed).randbytes(4096) for seed in range(20)),
    *(frame(random.Random(seed).randbytes(50 * seed)) for seed in range(20)),
]


async def test_garbage_before_the_proof(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    world = await serve()
    for data in GARBAGE:
        raw = await world.raw()
        raw.writer.write(data)
        assert await raw.ended(), data
        await raw.close()
    await eventually(lambda: not world.server._connections)
    assert sum(world.server.statistics.drops.values()) == len(GARBAGE)
    assert not world.host._sessions
    assert not [item for item in caplog.records if item.exc_info or item.levelno > logging.WARNING]


async def test_frames_are_short_before_the_proof(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    raw.writer.write((1025).to_bytes(4, "big"))
    assert await raw.ended()
    assert world.server.statistics.drops == {LinkGarbled.code: 1}
    await raw.close()


async def test_messages_before_the_proof_go_nowhere(serve: Serve) -> None:
    """All of it in one segment: the message is read only if the proof before it is right."""
    world = await serve()
    raw = await world.raw()
    shake = Handshake("gateway", OTHER)
    hello = await raw.receive()
    assert hello is not None
    proof = shake.receive(hello)
    assert proof is not None
    call = Call(1, await world.actor(), "increment", b"\x90")
    raw.writer.write(frame(shake.hello()) + frame(proof) + frame(msgspec.msgpack.encode([call])))
    assert await raw.ended()
    assert world.server.statistics.messages_in == 0
    assert world.host.resident == 0
    await raw.close()


async def test_too_many_unproven_peers_are_refused(serve: Serve) -> None:
    world = await serve(LinkSettings(handshakes=2))
    raws = [await world.raw() for _ in range(2)]
    await eventually(lambda: len(world.server._connections) == 2)
    third = await world.raw()
    assert await third.ended()
    assert world.server.statistics.drops == {"link_unproven": 1}
    await raws[0].prove()
    gateway = await world.gateway()
    assert await gateway.call(await world.actor(), "increment") == 1
    for raw in (*raws, third):
        await raw.close()
