"""The machine of `faults_machine` over `file://`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from faults_machine import Things
from hypothesis.stateful import rule

from rivet_ray.store import Store, open_store

STEP = 20.0


class FileThings(Things):
    """Over `file://`; the store is closed, and killed, too."""

    exact = False

    async def open(self) -> Store:
        self.directory = Path(tempfile.mkdtemp(prefix="faults"))
        return await open_store(f"file://{self.directory}/0")

    async def pass_time(self, seconds: float) -> None:
        """In steps, so that the store's thread is not left behind for minutes."""
        while seconds > 0:
            await self.clock.advance(min(seconds, STEP))
            await asyncio.sleep(0.003)
            seconds -= STEP

    async def finish(self) -> None:
        try:
            await super().finish()
        finally:
            shutil.rmtree(self.directory)

    @rule()
    def reopen(self) -> None:
        """Stop everything in good order."""

        async def reopened() -> None:
            place = self.store.directory
            await self.setup.close()
            await self.store.close()
            self.store = await open_store(f"file://{place}")
            await self.serve()

        self.run(reopened())

    @rule()
    def kill(self) -> None:
        self.run(self.lose())

    async def lose(self) -> None:
        """As kill -9: go on with the files as they are now."""
        before = self.store.directory
        after = self.directory / str(int(before.name) + 1)
        self.setup.backend.abandon()
        after.mkdir()
        for end in ("", "-wal"):
            shutil.copy(before / f"rivet.sqlite3{end}", after / f"rivet.sqlite3{end}")
        await self.setup.client.aclose()
        await self.store.close()
        shutil.rmtree(before)
        self.store = await open_store(f"file://{after}")
        await self.serve()
