"""Handlers of a synchronous connection that are too slow: bounded, counted, told once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rivet_ray.client.handler_thread import MAX_LIFECYCLE, HandlerThread
from rivet_ray.client.listeners import MAX_UNREAD
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

    handlers = HandlerThread("a connection", lambda event, error: None)
    handlers.put("ticked", slow, (0,))
    assert begun.wait(10)
    told = 0
    for number in range(1, 10_000):
        try:
            handlers.put("ticked", slow, (number,))
        except SlowConsumer as error:
            told += 1
            handlers.put("error", problems.append, (error,))
    assert told == 1
    assert handlers.dropped == 10_000 - 1 - MAX_UNREAD
    for _ in range(1_000):
        handlers.put("error", handled.append, ("error",))
    assert handlers._work.qsize() == MAX_UNREAD + MAX_LIFECYCLE
    assert handlers.dropped == 10_000 - 1 - MAX_UNREAD + 1_000 - MAX_LIFECYCLE + 1
    go.set()
    handlers.close()
    assert handled[: MAX_UNREAD + 1] == list(range(MAX_UNREAD + 1))
    assert [type(problem) for problem in problems] == [SlowConsumer]


def test_it_is_told_again_after_they_caught_up() -> None:
    handlers = HandlerThread("a connection", lambda event, error: None)
    for _ in range(2):
        go, begun, done = (threading.Event() for _ in range(3))
        handlers.put("ticked", lambda go=go, begun=begun: (begun.set(), go.wait(10)), ())
        assert begun.wait(10)
        for _ in range(MAX_UNREAD):
            handlers.put("ticked", int, ())
        with pytest.raises(SlowConsumer):
            handlers.put("ticked", int, ())
        handlers.put("ticked", int, ())
        go.set()
        handlers.put("connected", done.set, ())
        assert done.wait(10)
    assert handlers.dropped == 4
    handlers.close()
