"""The answers to calls, on the caller's side of the port."""

from __future__ import annotations

import asyncio

from rivet_ray.errors import InternalError, Outcome
from rivet_ray.protocol.port import Failed, Failure, Reply
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.runtime")


class Answered:
    """An answer that is awaited."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Reply | Failed] = loop.create_future()

    def __call__(self, message: Reply | Failed) -> None:
        if not self.future.done():
            self.future.set_result(message)


def instead_of(message: Reply | Failed, fault: Exception) -> Failed:
    """What a caller is told of an answer that it could not take: it must not wait in vain."""
    log.error("an answer cannot be handed to its caller", exc_info=fault, extra=REPEATED)
    outcome = Outcome.TOOK_EFFECT.value if isinstance(message, Reply) else message.failure.outcome
    failure = Failure(InternalError.code, InternalError.MESSAGE, 500, None, outcome)
    return Failed(message.call, failure)
