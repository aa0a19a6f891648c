"""Handlers of a synchronous connection that are too slow: bounded, counted, told once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rivet_ray.budget import MIB
from rivet_ray.client.backlog import MAX_LIFECYCLE, MAX_UNREAD
from rivet_ray.client.handler_thread import HandlerThread
from rivet_ray.errors import SlowConsumer


def test_errors_do_not_pile_up() -> None:
    """Each used to be another life-cycle event, which was always taken."""
    go, begun = threading.Event(), threading.Event()
    problems: list[Exception] = []
    handled: list[Any] = []

    def slow(number: int) -> None:
        begun.set()
        go.wait(10)
        handled.append(number)

    handlers = HandlerThread("a connection", lambda event, error: None, 16 * MIB)
    handlers.put("ticked", slow, (0,), 0)
    assert begun.wait(10)
    told = 0
    for number in range(1, 10_000):
        try:
            handlers.put("ticked", slow, (number,), 0)
        except SlowConsumer as error:
            told += 1
            handlers.put("error", problems.append, (error,), 0)
    assert told == 1
    assert handlers.dropped == 10_000 - 1 - MAX_UNREAD
    for _ in range(1_000):
        handlers.put("error", handled.append, ("error",), 0)
    assert handlers._work.qsize() == MAX_UNREAD + MAX_LIFECYCLE
    assert handlers.dropped == 10_000 - 1 - MAX_UNREAD + 1_000 - MAX_LIFECYCLE + 1
    go.set()
    handlers.close()
    assert handled[: MAX_UNREAD + 1] == list(range(MAX_UNREAD + 1))
    assert [type(problem) for problem in problems] == [SlowConsumer]


def test_it_is_told_again_after_they_caught_up() -> None:
    handlers = HandlerThread("a connection", lambda event, error: None, 16 * MIB)
    for _ in range(2):
        go, begun, done = (threading.Event() for _ in range(3))
        handlers.put("ticked", lambda go=go, begun=begun: (begun.set(), go.wait(10)), (), 0)
        assert begun.wait(10)
        for _ in range(MAX_UNREAD):
            handlers.put("ticked", int, (), 0)
        with pytest.raises(SlowConsumer):
            handlers.put("ticked", int, (), 0)
        handlers.put("ticked", int, (), 0)
        go.set()
        handlers.put("connected", done.set, (), 0)
        assert done.wait(10)
    assert handlers.dropped == 4
    handlers.close()


def test_large_events_are_bounded_in_bytes() -> None:
    """1,024 events of any size could wait."""
    go, begun = threading.Event(), threading.Event()
    handlers = HandlerThread("a connection", lambda event, error: None, 100_000)
    handlers.put("ticked", lambda: (begun.set(), go.wait(10)), (), 500_000)  # alone it passes
    assert begun.wait(10)
    with pytest.raises(SlowConsumer, match="100000 bytes"):
        handlers.put("ticked", int, (), 20_000)
    go.set()
    done = threading.Event()
    handlers.put("connected", done.set, (), 0)
    assert done.wait(10)
    handled: list[int] = []
    for number in range(4):
        handlers.put("ticked", handled.append, (number,), 20_000)
    handlers.close()
    assert handled == [0, 1, 2, 3]
    assert handlers.dropped == 1
