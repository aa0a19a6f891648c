"""What waits for clients is counted in bytes, and given up by a rule."""

from __future__ import annotations

import asyncio
from typing import Any

from rivet_ray.gateway.budgets import Budgets, Share
from rivet_ray.gateway.outgoing import OVERHEAD, Events, Frames
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol.caller import Caller, RequestInfo

SLOW = {"type": "websocket.close", "code": 1011, "reason": "slow_consumer"}


class Owner:
    def __init__(self) -> None:
        self.ended = self.taken = 0

    def ends(self) -> None:
        self.ended += 1

    def relieved(self) -> None:
        self.taken += 1


class Gateway:
    """Clients of a gateway with tight bounds."""

    def __init__(self, client: int, caller: int, gateway: int) -> None:
        self._limit = client
        self.budgets = Budgets(
            GatewaySettings(max_held_size_per_caller=caller, max_held_size=gateway)
        )
        self.statistics = GatewayStatistics(self.budgets.gateway)
        self.shares: dict[str, Share] = {}

    def client(self, caller: str = "ann") -> tuple[Frames, Owner]:
        share = self.budgets.of(Caller(request=RequestInfo("GET", "", [], caller)))
        self.shares[caller] = share
        frames, owner = (
            Frames(self._limit, self.budgets, share.budget, self.statistics),
            Owner(),
        )
        frames.begin(owner)
        return frames, owner

    @property
    def held(self) -> int:
        return self.budgets.gateway.held


async def written(frames: Frames) -> list[Any]:
    """What leaves for a client that reads; its connection is closed then."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    frames.close(1000, "")
    await frames.write(send, binary=True)
    return sent


async def test_frames_count_until_they_are_written() -> None:
    gateway = Gateway(1_000, 10_000, 100_000)
    frames, owner = gateway.client()
    frames.put(b"x" * 100)
    frames.put(b"y" * 100)
    assert frames.waiting == gateway.held == gateway.shares["ann"].budget.held
    assert frames.waiting == 2 * (100 + OVERHEAD)
    taken = asyncio.Event()

    async def send(message: Any) -> None:
        await taken.wait()

    writing = asyncio.create_task(frames.write(send, binary=True))
    await asyncio.sleep(0)
    assert gateway.held == 2 * (100 + OVERHEAD), "what is being written is still held"
    taken.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (gateway.held, frames.waiting, owner.taken) == (0, 0, 2)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_one_large_frame_counts_as_many_small_ones() -> None:
    """E1: it was 4,096 frames of any size."""
    gateway = Gateway(1_000, 10_000, 100_000)
    frames, owner = gateway.client()
    frames.put(b"x" * 500)
    assert not frames.fits(b"y" * 500)
    frames.put(b"y" * 500)
    assert frames.slow
    assert owner.ended == 1
    assert gateway.held == 0
    told = gateway.statistics.told()
    assert (told["slowConsumers"], told["heldBytes"]) == (1, 0)
    assert told["mostHeldBytes"] == 500 + OVERHEAD
    assert told["refused"] == {"client": 1}
    assert await written(frames) == [SLOW]


async def test_a_caller_with_many_connections_has_one_bound() -> None:
    """Beyond it the connection is closed for which most waits; other callers are not."""
    gateway = Gateway(1_000, 1_500, 100_000)
    other, other_owner = gateway.client("bob")
    other.put(b"o" * 900)
    first, first_owner = gateway.client()
    second, second_owner = gateway.client()
    third, third_owner = gateway.client()
    first.put(b"x" * 300)
    second.put(b"x" * 800)
    third.put(b"x" * 400)
    assert (first_owner.ended, second_owner.ended, third_owner.ended) == (0, 1, 0)
    assert other_owner.ended == 0
    assert gateway.budgets.gateway.refusals == {"caller": 1}
    assert len(await written(third)) == 2


async def test_a_full_gateway_closes_the_client_for_whom_most_waits() -> None:
    gateway = Gateway(1_000, 2_000, 3_000)
    hoarders = [gateway.client(name) for name in ("a", "b", "c")]
    for frames, _ in hoarders:
        frames.put(b"x" * 850)
    hoarders[1][0].put(b"x" * 20)
    honest, owner = gateway.client("honest")
    honest.put(b"x" * 500)
    assert owner.ended == 0
    assert [hoarder.ended for _, hoarder in hoarders] == [0, 1, 0]
    assert gateway.held <= 3_000
    assert gateway.budgets.gateway.refusals == {"gateway": 1}


async def test_an_event_for_many_counts_once() -> None:
    """A broadcast must not close those who read: its bytes are there once."""
    gateway = Gateway(10_000, 20_000, 20_000)
    frame = gateway.budgets.shared(b"x" * 5_000)
    clients = [gateway.client(str(number)) for number in range(50)]
    for frames, _ in clients:
        frames.put(frame)
    assert not any(owner.ended for _, owner in clients)
    assert gateway.held == 5_000 + 50 * OVERHEAD
    assert clients[0][0].waiting == 5_000 + OVERHEAD
    for frames, _ in clients:
        await written(frames)
    del frame
    assert gateway.held == 0


async def test_events_that_nobody_takes_are_bounded_too() -> None:
    gateway = Gateway(10_000, 20_000, 20_000)
    clients = [gateway.client(str(number)) for number in range(4)]
    for _ in range(4):
        for frames, _owner in clients:
            frames.put(gateway.budgets.shared(b"x" * 2_000))
    assert gateway.held <= 20_000 + 2_000
    assert sum(owner.ended for _, owner in clients) == 2


async def test_nothing_is_held_for_a_client_that_is_gone() -> None:
    gateway = Gateway(1_000, 10_000, 100_000)
    frames, owner = gateway.client()
    frames.put(b"x" * 100)
    frames.end()
    assert gateway.held == 0
    other, _ = gateway.client()
    other.put(b"x" * 900)
    gateway.budgets.make_room(gateway.budgets.gateway, 99_900)
    assert owner.ended == 0


async def test_events_are_held_until_their_chunk_has_left() -> None:
    gateway = Gateway(1_000, 10_000, 100_000)
    share = gateway.budgets.of(Caller())
    events = Events(1_000, gateway.budgets, share.budget, gateway.statistics)
    events.put(b"one")
    events.put(b"two")
    events.finish()
    chunks = events.chunks()
    assert await anext(chunks) == b"onetwo"
    assert events.waiting == 2 * (3 + OVERHEAD)
    assert [chunk async for chunk in chunks] == []
    assert events.waiting == gateway.held == 0


def test_a_caller_with_an_identity_is_one_wherever_they_come_from() -> None:
    budgets = Gateway(1_000, 10_000, 100_000).budgets

    def share(address: str, auth: bytes, identity: str | None = None) -> Share:
        return budgets.of(Caller(None, auth, RequestInfo("GET", "", [], address), identity))

    one, other = share("a", b"token 1", "caller:ann"), share("b", b"token 2", "caller:ann")
    assert one is other
    guests = [share("a", b"guest"), share("b", b"guest"), share("b", b"admin")]
    assert len({id(guest) for guest in guests}) == 3
