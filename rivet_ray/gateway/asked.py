"""What the client of a connection has asked for and has no answer to: waiting or running.

Actions start in the order in which they came, as many at once as the settings allow and
as the client reads. Nobody knows how long an answer will be; the last ones say how long
it may be, and no more start than answers of that length fit into the client's queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from rivet_ray.budget import Budget
from rivet_ray.gateway.outgoing import OVERHEAD, Outgoing
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol.port import Ask

UNREAD = 4
"""While more than one part in so many of what may wait for a client waits, nothing is started."""
PAUSE = 0.05
"""Seconds without an answer, after which actions start although theirs may not fit."""


class Asked:
    """The actions of one connection."""

    __slots__ = (
        "_answered",
        "_budget",
        "_burst",
        "_draining",
        "_expected",
        "_most",
        "_outgoing",
        "_running",
        "_start",
        "_timer",
        "_waiting",
    )

    def __init__(
        self,
        settings: GatewaySettings,
        outgoing: Outgoing,
        incoming: Budget,
        start: Callable[[Ask], None],
    ) -> None:
        """`start` begins an action; `answered` is called once for each."""
        self._most = settings.max_in_flight
        self._outgoing = outgoing
        self._start = start
        self._budget = Budget("connection", settings.max_waiting_size, incoming)
        self._waiting: deque[Ask] = deque()
        self._running = 0
        self._answered = 0
        self._burst = 1
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._expected = 0
        """Bytes that the longest of the last answers counted for."""

    def put(self, asked: Ask) -> None:
        """Start an action, or keep it. Raises Overloaded where there is no room.

        Reading goes on meanwhile, so that a client that leaves is noticed.
        """
        self._budget.take(asked.cost)
        if not self._waiting and self._may_start and self._fits:
            self._begin(asked)
        else:
            self._waiting.append(asked)
            self.relieved()

    def answered(self, asked: Ask) -> None:
        """An action has ended."""
        self._running -= 1
        self._answered += 1
        self._budget.give_back(asked.cost)
        self.relieved()

    def measured(self, size: int) -> None:
        """An answer is that long, as it is sent."""
        self._expected = max(size + OVERHEAD, self._expected // 2)

    def relieved(self) -> None:
        """The client has taken something, or an action has ended."""
        if self._waiting and not self._draining:
            asyncio.get_running_loop().call_soon(self._drain)
            self._draining = True

    def end(self) -> None:
        """The client is gone: what has not started never will."""
        self._budget.give_back(sum(asked.cost for asked in self._waiting))
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    # --- Starting ---------------------------------------------------------------

    @property
    def _may_start(self) -> bool:
        """Whether another action may start; not while the client leaves its answers unread."""
        outgoing = self._outgoing
        return self._running < self._most and UNREAD * outgoing.waiting <= outgoing.limit

    @property
    def _fits(self) -> bool:
        """Whether another answer fits, if all are as long as the last ones."""
        outgoing = self._outgoing
        return outgoing.waiting + (self._running + 1) * self._expected <= outgoing.limit

    def _begin(self, asked: Ask) -> None:
        self._running += 1
        self._start(asked)

    def _drain(self) -> None:
        """Start what waits, in order: it is in the queue until then, so nothing overtakes it."""
        self._draining = False
        while self._waiting and self._may_start and self._fits:
            self._begin(self._waiting.popleft())
        if self._waiting and self._may_start and self._timer is None:
            later = asyncio.get_running_loop().call_later
            self._timer = later(PAUSE, self._start_some, self._answered)

    def _start_some(self, answered: int) -> None:
        """Start some whose answers may not fit, more each time that no answer came meanwhile.

        Those that run may wait for them.
        """
        self._timer = None
        silent = answered == self._answered
        number = self._burst if silent else 0
        self._burst = 2 * self._burst if silent else 1
        while self._waiting and self._may_start and number:
            number -= 1
            self._begin(self._waiting.popleft())
        self._drain()
