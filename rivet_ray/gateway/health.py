"""`GET /health`: whether writes get through, by the status code alone.

The reason is for operators: it is in the log, once for each outage. A store that hangs
costs a probe two seconds, and many probes at once share one try.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

from starlette.types import Scope
from typing_extensions import override

from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.documents import Page
from rivet_ray.gateway.responses import JSON

HEALTH_TIMEOUT = 2.0
"""Seconds that the store may take to answer a probe."""
WRITE_EVERY = 1.0
"""Seconds for which a write that came through counts."""

log = logging.getLogger("rivet_ray.gateway")


class Health(Page):
    """`GET /health`: 200 when requests can be served here, else 503. Starts nothing."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._looking: asyncio.Task[str | None] | None = None
        self._written_at = -WRITE_EVERY
        self._why: str | None = None
        """What was wrong at the last look."""

    @override
    async def page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        status = await self._status()
        return (200 if status == "ok" else 503), json.dumps({"status": status}).encode(), JSON

    async def _status(self) -> str:
        if not self._backend.started:
            return "not_started"
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        # A probe that leaves takes nobody else's look with it.
        why = await asyncio.shield(self._looking)
        return "ok" if why is None else "unavailable"

    def _looked(self, task: asyncio.Task[str | None]) -> None:
        self._looking = None
        if task.cancelled():
            return
        why, before = task.result(), self._why
        self._why = why
        if why is not None and before is None:
            log.warning("/health says 503: %s", why)
        elif why is None and before is not None:
            log.warning("/health says 200 again")

    async def _look(self) -> str | None:
        """What keeps writes from getting through, if anything does. Raises nothing."""
        backend = self._backend
        why = backend.ailing()
        if why is not None:
            return why
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT):
                await backend.directory.check()
                if time.monotonic() - self._written_at >= WRITE_EVERY:
                    await backend.directory.check_writes()
                    self._written_at = time.monotonic()
        except TimeoutError:
            return f"the store did not answer within {HEALTH_TIMEOUT:g} s"
        except Exception as error:
            return f"the store: {error!r}"
        return None
