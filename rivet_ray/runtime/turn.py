"""A turn: one unit of work of an instance, and who caused it.

Code that runs for a call finds its turn in a context variable, so that
interleaved actions each see their own connection. Tasks that user code starts
inherit it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeVar

from rivet_ray.protocol.port import Call

if TYPE_CHECKING:
    from rivet_ray.runtime.connections import Connection
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

T = TypeVar("T")


class Turn:
    """A call of an action, or a hook (then `call` is None)."""

    __slots__ = ("answered", "call", "connection", "instance", "session")

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
        self.connection = connection
        self.answered = False

    @property
    def number(self) -> int:
        """The number that the gateway gave the call."""
        return -1 if self.call is None else self.call.call


current_turn: ContextVar[Turn | None] = ContextVar("rivet_ray_turn", default=None)


@contextmanager
def running(turn: Turn) -> Generator[None]:
    """Make `turn` the current one."""
    token = current_turn.set(turn)
    try:
        yield
    finally:
        current_turn.reset(token)


async def settled(value: Awaitable[T] | T) -> T:
    """The result of a hook that may be plain or asynchronous."""
    if isawaitable(value):
        result: T = await value
        return result
    return value
