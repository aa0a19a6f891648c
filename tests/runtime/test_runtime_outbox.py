"""What waits for a gateway that is slow is counted in bytes (E10)."""

from __future__ import annotations

import pytest

from rivet_ray.budget import Budget
from rivet_ray.protocol.port import (
    INITIAL_CREDIT,
    Ask,
    Attached,
    Close,
    Deliver,
    Failed,
    Failure,
    Handed,
    Reply,
    ToGateway,
)
from rivet_ray.protocol.raw import RawData, RawEnd, RawStart, RawTaken
from rivet_ray.runtime.outbox import OVERHEAD, SMALL, Outbox


class Gateway:
    def __init__(self, limit: int) -> None:
        self.received: list[ToGateway] = []
        self.missed: list[Deliver] = []
        self.budget = Budget("gateway", limit)
        self.given_up = 0
        self.outbox = Outbox(
            self.received.append, self.missed.append, self.budget, give_up=self.give_up
        )

    def give_up(self) -> None:
        self.given_up += 1

    def event(self, size: int = 1_000) -> None:
        self.outbox.put(Deliver("actor", "said", b"x" * size))

    def exhaust(self) -> None:
        """Use up all credit."""
        for _ in range(INITIAL_CREDIT):
            self.event(1)
        self.received.clear()


def test_large_events_count_as_what_they_are() -> None:
    """They were 65,536 events of any size."""
    gateway = Gateway(10 * (OVERHEAD + 1_004))
    gateway.exhaust()
    for _ in range(12):
        gateway.event()
    assert len(gateway.missed) == gateway.outbox.dropped == 2
    assert gateway.received == []
    assert gateway.budget.refusals == {"gateway": 2}
    gateway.outbox.grant(5)
    assert len(gateway.received) == 5
    gateway.event()
    assert len(gateway.missed) == 2
    gateway.outbox.grant(100)
    assert len(gateway.received) == 11
    assert gateway.budget.held == 0


def test_an_answer_that_does_not_fit_becomes_an_error() -> None:
    gateway = Gateway(5_000)
    gateway.exhaust()
    gateway.event()
    gateway.outbox.put(Reply(1, b"y" * 1_000))
    gateway.outbox.put(Reply(2, b"y" * 10_000))
    gateway.outbox.put(Attached(3))
    gateway.outbox.grant(10)
    event, first, second, last = gateway.received
    assert isinstance(event, Deliver)
    assert first == Reply(1, b"y" * 1_000)
    assert isinstance(second, Failed)
    assert (second.call, second.failure.code, second.failure.outcome) == (
        2,
        "overloaded",
        "took_effect",
    )
    assert last == Attached(3)


def test_nothing_is_held_for_a_gateway_that_is_gone() -> None:
    host = Budget("host", 100_000)
    outbox = Outbox(
        list[ToGateway]().append, list[Deliver]().append, Budget("gateway", 9_999, host)
    )
    for _ in range(INITIAL_CREDIT + 3):
        outbox.put(Deliver("actor", "said", b"x"))
    assert host.held > 0
    outbox.end()
    assert host.held == 0


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Attached(1, events=["x" * 5_000]), 5_000),
        (Handed(1, "c", Ask(1, "a", b"x" * 5_000)), 5_000),
        (RawStart(1, 200, [(b"x", b"x" * 5_000)]), 5_000),
        (RawData(1, b"x" * 5_000), 5_000),
        (Close("c", 1000, "x" * 5_000), 5_000),
        (RawEnd(1, 1000, "x" * 5_000), 5_000),
        (RawTaken(1, 5), 0),
    ],
)
def test_each_message_counts_as_what_it_carries(message: ToGateway, size: int) -> None:
    """All but events, answers and errors counted as 256 bytes."""
    gateway = Gateway(100_000)
    gateway.exhaust()
    gateway.event()
    before = gateway.budget.held
    gateway.outbox.put(message)
    assert OVERHEAD + size <= gateway.budget.held - before <= OVERHEAD + size + 1_000
    gateway.outbox.grant(1)
    assert gateway.budget.held == 0


def test_what_is_small_is_bounded_too() -> None:
    """Failed calls of a gateway that takes nothing were kept without an end."""
    gateway = Gateway(10 * OVERHEAD)
    gateway.exhaust()
    gateway.event(1)
    failure = Failure("actor_cancelled", "", 500)
    for number in range(100):
        gateway.outbox.put(Failed(number, failure))
        if gateway.given_up:
            break
    assert number < 20
    assert gateway.budget.held <= SMALL * gateway.budget.limit + OVERHEAD
    gateway.outbox.put(Failed(0, failure))
    assert gateway.given_up == 1
    assert gateway.budget.refusals["gateway that takes nothing"] == 1
