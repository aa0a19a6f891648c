"""What waits for a gateway that is slow is counted in bytes (E10)."""

from __future__ import annotations

from rivet_ray.budget import Budget
from rivet_ray.protocol.port import INITIAL_CREDIT, Attached, Deliver, Failed, Reply, ToGateway
from rivet_ray.runtime.outbox import OVERHEAD, Outbox


class Gateway:
    def __init__(self, limit: int) -> None:
        self.received: list[ToGateway] = []
        self.missed: list[Deliver] = []
        self.budget = Budget("gateway", limit)
        self.outbox = Outbox(self.received.append, self.missed.append, self.budget)

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
