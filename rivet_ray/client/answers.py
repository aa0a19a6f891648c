"""Reads answers over HTTP whole, bounded in bytes, as `httpx` does without a bound."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from rivet_ray.budget import Budget
from rivet_ray.client.settings import admit
from rivet_ray.client.transport import read_outcome
from rivet_ray.errors import MessageTooLong, Outcome, Overloaded
from rivet_ray.protocol.v0 import OUTCOME_HEADER

CALL = 1_024
"""Bytes that a call which waits for its answer takes beside its body."""


class Share:
    """What one call holds of its client's bound, until it is left."""

    def __init__(self, client: Budget) -> None:
        self._client = client
        self._size = 0

    def take(self, size: int, outcome: Outcome | None = Outcome.NOT_STARTED) -> None:
        """Hold `size` bytes more. Raises Overloaded, with what is known of the call."""
        full = admit(self._client, size, self._size)
        if full is not None:
            raise Overloaded(
                f"This client holds all of {full.limit} bytes. Wait for some calls before you "
                "begin others, or raise ClientSettings.max_held_size.",
                outcome=outcome,
            )
        self._size += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.give_back(self._size)
        self._size = 0


async def read_body(answer: httpx.Response, longest: int, share: Share) -> bytes:
    """The body of an answer, decoded. Raises MessageTooLong and Overloaded."""
    told = Outcome.TOOK_EFFECT if answer.is_success else Outcome.UNKNOWN
    outcome = read_outcome(answer.headers.get(OUTCOME_HEADER), told)
    read: list[bytes] = []
    size = 0
    async for piece in answer.aiter_bytes():
        size += len(piece)
        if size > longest:
            raise MessageTooLong(
                f"The answer of {answer.request.url} has more than {longest} bytes. Let it "
                "return less at once, or raise ClientSettings.max_message_size.",
                outcome=outcome,
            )
        share.take(len(piece), outcome)
        read.append(piece)
    return b"".join(read)


async def read_whole(answer: httpx.Response, longest: int, share: Share) -> None:
    """Read the body of a response into it, and release its connection in any case.

    Raises MessageTooLong and Overloaded.
    """
    try:
        content = await read_body(answer, longest, share)
    finally:
        await answer.aclose()
    # Where `aread` keeps it, which knows no bound.
    vars(answer)["_content"] = content
