"""Answers over HTTP that are too long to be handed to the socket in one piece.

What a server is given to write stays in memory until its client has read it. A long
answer is written as its client takes it, so that it is known what still waits, counted,
and given up for a client that does not read.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from rivet_ray.budget import Budget
from rivet_ray.errors import Outcome, Overloaded
from rivet_ray.gateway.budgets import Budgets, Share
from rivet_ray.gateway.negotiate import ClientGone
from rivet_ray.gateway.vanishing import cut, until_taken
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")

PIECE = 65_536
"""Bytes that are written at once."""


class LongAnswer:
    """One answer on its way; see `rivet_ray.gateway.budgets.Waiting`."""

    def __init__(self, budgets: Budgets, share: Share, timeout: float) -> None:
        """`timeout` is how many seconds the client may take for each piece."""
        self._budgets = budgets
        self._whose = share
        self._timeout = timeout
        self._taking: asyncio.Timeout | None = None
        self.waiting = 0
        """Bytes that its client has not taken."""

    @property
    def share(self) -> Budget:
        """The bound of its caller."""
        return self._whose.budget

    def drop(self) -> None:
        """Give it up: its client is cut off."""
        self.share.give_back(self.waiting)
        self.waiting = 0
        if self._taking is not None and not self._taking.expired():
            self._taking.reschedule(asyncio.get_running_loop().time())

    async def send(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, content_type: bytes
    ) -> None:
        """Send it. Raises Overloaded before it begins, and ClientGone if it was given up."""
        self._hold(len(body))
        self._budgets.add(self)
        send = until_taken(scope, send)
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for start in range(0, len(body), PIECE):
                end = start + PIECE
                async with asyncio.timeout(self._timeout) as self._taking:
                    await send(
                        {
                            "type": "http.response.body",
                            "body": body[start:end],
                            "more_body": end < len(body),
                        }
                    )
                self._taken(min(end, len(body)) - start)
        except TimeoutError as late:
            log.warning(
                "an answer of %d bytes is given up: its client does not read",
                len(body),
                extra=REPEATED,
            )
            await cut(scope, receive)
            raise ClientGone from late
        finally:
            self._budgets.remove(self)
            self.share.give_back(self.waiting)
            self.waiting = 0

    def _hold(self, size: int) -> None:
        self._budgets.make_room(self.share, size)
        exceeded = self.share.exceeded(size)
        if exceeded is not None:
            exceeded.refuse()
            raise Overloaded(
                f"The action has run, but its answer of {size} bytes has no room beside what "
                f"waits for this {exceeded.name}.",
                outcome=Outcome.TOOK_EFFECT,
            )
        self.share.hold(size)
        self.waiting = size

    def _taken(self, size: int) -> None:
        size = min(size, self.waiting)
        self.share.give_back(size)
        self.waiting -= size
