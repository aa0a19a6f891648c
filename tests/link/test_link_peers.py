"""Peers that misbehave once they are in: they are dropped, and nothing else suffers."""

from __future__ import annotations

import asyncio
import gc
import socket

import msgspec
import pytest
from link_worlds import Raw, Serve, World, eventually, fake_host

from rivet_ray.link import (
    LinkGarbled,
    LinkOverflow,
    LinkSettings,
    LinkSilent,
)
from rivet_ray.link.frames import decode_to_gateway, frame
from rivet_ray.protocol.port import Call, Reply
from rivet_ray.testing import ManualClock
from rivet_ray.testing.clock import settle


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xc1"),
        frame(b"\x91\x92\xa5reply\x01"),
        frame(b""),
        (64 * 1024 * 1024 + 1).to_bytes(4, "big"),
    ],
)
async def test_garbage_after_the_proof_ends_the_link(serve: Serve, data: bytes) -> None:
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    await eventually(lambda: len(world.host._sessions) == 1)
    raw.writer.write(data)
    assert await raw.ended()
    assert world.server.statistics.drops == {LinkGarbled.code: 1}
    assert not world.host._sessions
    await raw.close()


async def test_a_stream_that_is_cut_inside_a_frame(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    raw.writer.write(frame(b"x" * 1000)[:500])
    await raw.writer.drain()
    raw.writer.close()
    await eventually(lambda: not world.server._connections)
    assert not world.host._sessions


async def test_a_frame_in_pieces_is_one_frame(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    call = Call(7, await world.actor(), "increment", b"\x90")
    for byte in frame(msgspec.msgpack.encode([call])):
        raw.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    payload = await raw.receive()
    assert payload is not None
    assert decode_to_gateway(payload) == [Reply(7, b"\x01")]
    await raw.close()


async def test_a_peer_that_does_not_read_is_bounded_and_dropped(serve: Serve) -> None:
    world = await serve(LinkSettings(buffer_limit=1_000_000))
    raw = await world.raw(limit=1)
    assert await raw.prove() is not None
    raw.stop_reading()
    actor = await world.actor()
    other = await world.gateway()
    [connection] = [item for item in world.server._connections if item.peer == name_of(raw)]
    most = 0
    for number in range(1000):
        raw.send_value([Call(number, actor, "text", b"\x91\xce\x00\x01\x86\xa0")])
        await asyncio.sleep(0.001)
        if connection._transport is not None:
            most = max(most, connection._transport.get_write_buffer_size())
        if world.server.statistics.drops:
            break
    assert world.server.statistics.drops == {LinkOverflow.code: 1}
    assert world.server.statistics.pauses > 0
    assert 500_000 < most <= 1_000_000 + 110_000
    await eventually(lambda: len(world.host._sessions) == 1)
    assert await other.call(actor, "increment") == 1
    await raw.close()


async def test_a_gateway_that_its_session_gives_up_is_dropped(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    await eventually(lambda: world.host._sessions)
    [session] = world.host._sessions
    other = await world.gateway()
    actor = await world.actor()
    session._give_up()
    await eventually(lambda: world.server.statistics.drops)
    assert world.server.statistics.drops == {LinkOverflow.code: 1}
    await eventually(lambda: len(world.host._sessions) == 1)
    assert await other.call(actor, "increment") == 1
    await raw.close()


def name_of(raw: Raw) -> str:
    host, port = raw.writer.get_extra_info("sockname")
    return f"{host}:{port}"


async def test_a_silent_peer_is_asked_and_then_dropped(serve: Serve) -> None:
    world = await serve()
    host, _, port = world.server.address.rpartition(":")
    bare = socket.create_connection((host, int(port)))
    bare.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=bare)
    raw = Raw(reader, writer)
    assert await raw.prove() is not None
    await eventually(lambda: world.server.links == 1)
    await world.clock.advance(15)
    assert world.server.links == 1
    await world.clock.advance(5)
    assert world.server.links == 0
    assert world.server.statistics.drops == {LinkSilent.code: 1}
    assert not world.host._sessions
    assert await raw.receive() == b"\x91\x92\xa4beat\xc3"
    await raw.close()


async def test_a_silent_host_is_noticed_by_the_gateway(serve: Serve) -> None:
    clock = ManualClock()
    async with fake_host(clock) as (link, arrived):
        lost: list[Exception | None] = []
        link.on_lost = lost.append
        connecting = asyncio.create_task(link.connect())
        raw = await arrived
        await raw.prove_host()
        await connecting
        await clock.advance(20)
        [reason] = lost
        assert isinstance(reason, LinkSilent)
        assert "15 s" in reason.message


async def test_an_idle_link_lives_by_its_heartbeat(serve: Serve) -> None:
    world = await serve()
    gateway = await world.gateway()
    for _ in range(40):
        await world.clock.advance(5)
        await asyncio.sleep(0.002)
    assert gateway.link.connected
    assert world.server.links == 1
    assert 0 < gateway.link.statistics.messages_in < 80


async def test_any_byte_is_a_sign_of_life(serve: Serve) -> None:
    """A frame that takes long on a slow wire keeps its link."""
    world = await serve()
    raw = await world.raw()
    assert await raw.prove() is not None
    await eventually(lambda: world.server.links == 1)
    raw.writer.write((100_000).to_bytes(4, "big"))
    counts = world.server.statistics
    for _ in range(20):
        before = counts.bytes_in
        raw.writer.write(b"x")
        await eventually(lambda before=before: counts.bytes_in > before)
        await world.clock.advance(5)
    assert world.server.links == 1
    await raw.close()


async def test_an_orderly_close_does_not_wait_for_ever(serve: Serve) -> None:
    world = await serve()
    raw = await world.raw(limit=1)
    assert await raw.prove() is not None
    raw.stop_reading()
    raw.send_value([Call(1, await world.actor(), "text", b"\x91\xce\x01\x00\x00\x00")])
    [connection] = world.server._connections
    await eventually(lambda: (t := connection._transport) and t.get_write_buffer_size() > 1_000_000)
    closing = asyncio.create_task(world.server.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    await world.clock.advance(5)
    await closing
    await raw.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_that_closes_while_peers_arrive() -> None:
    """asyncio itself forgets a socket that it accepts while its server closes: not our leak."""
    for turns in range(6):
        world = World()
        await world.start()
        host, _, port = world.server.address.rpartition(":")
        bare = socket.create_connection((host, int(port)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await world.close()
        bare.close()
        await settle()
        assert not world.server._connections
    gc.collect()
