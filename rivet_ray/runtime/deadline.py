"""Deadlines on the injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from rivet_ray.clock import Clock


@asynccontextmanager
async def within(clock: Clock, seconds: float, what: str) -> AsyncGenerator[None]:
    """Cancel the body after `seconds` and raise TimeoutError, which names `what`.

    A cancellation from elsewhere passes through as it is.
    """
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = clock.call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if expired and task.uncancel() == 0:
            raise TimeoutError(f"{what} took longer than {seconds:g} s") from None
        raise
    finally:
        timer.cancel()


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on the injected clock."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish() -> None:
        if not over.done():
            over.set_result(None)

    timer = clock.call_later(seconds, finish)
    try:
        await over
    finally:
        timer.cancel()
