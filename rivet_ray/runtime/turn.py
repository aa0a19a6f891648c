"""A turn: one unit of work of an instance, and who caused it.

Code that runs for a call finds its turn in a context variable, so that
interleaved actions each see their own connection. Tasks that user code starts
inherit it.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rivet_ray.definition.user_tasks import current
from rivet_ray.protocol.port import Call

if TYPE_CHECKING:
    from rivet_ray.runtime.connection import Connection
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)


class Turn:
    """A call of an action, or a hook or scheduled action (then `call` is None)."""

    __slots__ = (
        "_id",
        "answered",
        "begun",
        "call",
        "chain",
        "connection",
        "deadline",
        "entered",
        "error",
        "instance",
        "joined",
        "key_part",
        "schedule_id",
        "session",
        "told",
        "undone",
    )

    def __init__(
        self,
        instance: Instance,
        session: Session | None = None,
        call: Call | None = None,
        connection: Connection | None = None,
    ) -> None:
        self.instance = instance
        self.session = session
        self.call = call
        self.chain: list[str] = [] if call is None else call.chain
        """The turns that wait for this one, the outermost first."""
        self.connection = connection
        self.answered = False
        self.entered = False
        """Its code has begun: what it changes may be in the next commit."""
        self.undone = False
        """It left what cannot be saved: what it gave away meanwhile is not true."""
        self.error: BaseException | None = None
        """What its code, or the look at what it left behind, has raised."""
        self.begun = False
        """It has had its first step; for turns that are tasks."""
        self.told = False
        """The caller has been told that its answer is late."""
        self.deadline: float | None = None
        """When the caller stops waiting, by the clock's monotonic time."""
        self.joined = False
        """It waits for the answer of another turn with the same idempotency key."""
        self.key_part: str | None = None
        """Where the answer is kept, for a call with an idempotency key."""
        self.schedule_id: str | None = None
        """The schedule entry that caused the turn."""
        self._id: str | None = None

    @property
    def number(self) -> int:
        """The number that the gateway gave the call."""
        return -1 if self.call is None else self.call.call

    @property
    def id(self) -> str:
        """A name for the turn in call chains, unique over hosts."""
        if self._id is None:
            self._id = f"{_PROCESS}:{next(_numbers)}"
        return self._id


current_turn: ContextVar[Turn | None] = current


@contextmanager
def running(turn: Turn) -> Generator[None]:
    """Make `turn` the current one."""
    token = current_turn.set(turn)
    try:
        yield
    finally:
        current_turn.reset(token)
