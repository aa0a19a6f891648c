"""The two bounds on raw exchanges: windows and lanes."""

from __future__ import annotations

import asyncio

from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.raw import RAW_PIECE, RAW_WINDOW, RawData, RawEnd
from rivet_ray.runtime.flow import ARRIVED, LANE, Arrivals, Inflow, Lane, Outflow, pieces


def piece(size: int, call: int = 1) -> RawData:
    return RawData(call, bytes(size), more=True)


def test_a_lane_keeps_what_the_link_has_no_room_for_in_order() -> None:
    sent: list[Message] = []
    lane: Lane[Message] = Lane(sent.append)
    given: list[Message] = [piece(RAW_PIECE, number) for number in range(100)]
    given.insert(90, RawEnd(90))
    for message in given:
        lane.put(message)
    under_way = sum(item.cost for item in sent if isinstance(item, RawData))
    assert LANE <= under_way < LANE + 2 * RAW_PIECE
    assert RawEnd(90) not in sent, "nothing overtakes"
    while len(sent) < len(given):
        before = len(sent)
        lane.arrived(piece(RAW_PIECE).cost)
        assert len(sent) > before
    assert sent == given


def test_arrivals_are_told_now_and_then_and_none_is_forgotten() -> None:
    told: list[int] = []
    arrivals = Arrivals(told.append)
    for _ in range(1000):
        arrivals.count(10_000)
    assert len(told) <= 10_000_000 // ARRIVED + 1
    assert 0 <= 10_000_000 - sum(told) < ARRIVED


async def test_a_window_fills_and_opens_as_its_reader_takes() -> None:
    outflow = Outflow(RAW_WINDOW)
    inflow = Inflow(outflow.grant)
    given = 0

    async def write() -> None:
        nonlocal given
        while await outflow.room():
            outflow.given(piece(10_000))
            inflow.put(piece(10_000))
            given += 1

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    first = given
    assert RAW_WINDOW // 10_128 <= first <= RAW_WINDOW // 10_128 + 1
    for _ in range(500):
        assert await inflow.take() is not None
        await asyncio.sleep(0)
    assert 500 <= given <= 500 + first
    outflow.end()
    await writing


async def test_an_inflow_that_ends_gives_what_it_has_first() -> None:
    inflow = Inflow(lambda _: None)
    waiting = asyncio.create_task(inflow.take())
    await asyncio.sleep(0)
    inflow.put(piece(1))
    inflow.put(piece(2))
    inflow.end()
    assert await waiting == piece(1)
    assert await inflow.take() == piece(2)
    assert await inflow.take() is None
    assert await inflow.take() is None


async def test_a_cancelled_take_loses_nothing() -> None:
    inflow = Inflow(lambda _: None)
    waiting = asyncio.create_task(inflow.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    inflow.put(piece(1))
    assert await inflow.take() == piece(1)


def test_pieces() -> None:
    assert pieces(b"") == [b""]
    data = bytes(range(256)) * 1000
    assert b"".join(pieces(data)) == data
    assert max(map(len, pieces(data))) == RAW_PIECE
