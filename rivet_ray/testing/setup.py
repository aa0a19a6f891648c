"""A registry in memory, for tests: its client, its clock, and restarts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Generic

from typing_extensions import TypeVar

from rivet_ray.asgi import serve_exchange
from rivet_ray.client.between import between_actors
from rivet_ray.client.client import Client
from rivet_ray.client.inline import CallerTransport, InlineTransport
from rivet_ray.registry import Registry
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.store import Store, open_store
from rivet_ray.testing.clock import ManualClock, settle

RegistryT = TypeVar("RegistryT", bound=Registry)


class Setup(Generic[RegistryT]):
    """Actors that live in the test's own event loop, on time that the test moves.

        async def test_reminder(rivet):
            test = await rivet(App)
            await test.client.reminder.get_or_create("me").remind_in(60)
            await test.clock.advance(60)

    Made by the fixture `rivet` or by `setup_test`.
    """

    def __init__(
        self,
        registry: type[RegistryT],
        store: Store,
        clock: ManualClock,
        settings: HostSettings | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.clock = clock
        """Stands still until `await clock.advance(seconds)`."""
        self._settings = settings
        self._open()

    def _open(self) -> None:
        self.backend = Standalone(
            self.registry.definitions(),
            self.store,
            clock=self.clock,
            settings=self._settings,
            connect=between_actors,
            handle=serve_exchange,
        )
        self.client: RegistryT = self.registry(Client.over(InlineTransport(self.backend)))
        """Calls the actors without network and without `on_auth`."""
        self._clients: list[RegistryT] = [self.client]

    def client_as(self, auth: Any) -> RegistryT:
        """A client whose calls and connections have `auth`, as if `on_auth` had returned it.

            admin = test.client_as({"user": "ann", "role": "admin"})
            await admin.forum.get_or_create("news").close_thread(7)

        Like `client` it is of no use after a restart or a crash; ask again.
        """
        made = self.registry(Client.over(CallerTransport(self.backend, auth)))
        self._clients.append(made)
        return made

    async def _close_clients(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def start(self) -> None:
        """Open the host now, not with the first call: what is due fires."""
        await self.backend.start()
        await settle()

    async def restart(self) -> None:
        """Stop the host in good order and start another one on the same store."""
        await self.close()
        self._open()
        await self.start()

    async def crash(self) -> None:
        """Lose the host with everything in memory, and start another one.

        Nothing of the old one is saved any more, and it answers nobody.
        """
        self.backend.abandon()
        await self._close_clients()
        self._open()
        await self.start()

    async def close(self) -> None:
        """Stop the host in good order. Time passes meanwhile where code does not end by itself."""
        await self._close_clients()
        await self.clock.until(self.backend.close())


@asynccontextmanager
async def setup_test(
    registry: type[RegistryT],
    *,
    store: str | Store = "memory://",
    clock: ManualClock | None = None,
    settings: HostSettings | None = None,
) -> AsyncGenerator[Setup[RegistryT]]:
    """`async with setup_test(App) as test:` where no fixture is at hand."""
    given: Any = store
    opened = await open_store(given) if isinstance(store, str) else store
    test = Setup(registry, opened, clock or ManualClock(), settings)
    try:
        await test.start()
        yield test
    finally:
        await test.close()
        if isinstance(store, str):
            await opened.close()
