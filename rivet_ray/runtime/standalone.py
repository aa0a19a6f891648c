"""A host with its directory and store in this process: the standalone topology."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rivet_ray.budget import Budget
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.definition import ActorDefinition
from rivet_ray.runtime.calls import HostClient
from rivet_ray.runtime.directory import Directory
from rivet_ray.runtime.exchange import Handle
from rivet_ray.runtime.host import Connect, Host
from rivet_ray.runtime.patience import Opening, close_store, open_in_time
from rivet_ray.runtime.settings import HostSettings
from rivet_ray.store import Store


class Standalone:
    """Opens the store and the host on first use, on the event loop that uses it.

    A store that was given open is not closed with it.
    """

    directory: Directory
    """Available once `start` has returned."""
    calls: HostClient
    """Available once `start` has returned."""
    host: Host
    """Available once `start` has returned."""

    def __init__(
        self,
        definitions: Mapping[str, ActorDefinition],
        store: str | Store = "memory://",
        *,
        clock: Clock | None = None,
        settings: HostSettings | None = None,
        connect: Callable[[Standalone], Connect] | None = None,
        handle: Handle | None = None,
        incarnation: str | None = None,
    ) -> None:
        """`connect` gives actors their way to others; see `Host` for it and the others."""
        self.definitions = definitions
        self._given = store
        self._store: Store | None = None
        self._clock: Clock = clock or SystemClock()
        self._settings = settings or HostSettings()
        self._connect = connect(self) if connect else None
        self._handle = handle
        self._incarnation = incarnation
        self._started = False
        self._opening = Opening()

    @property
    def started(self) -> bool:
        return self._started

    def ailing(self) -> str | None:
        """Why no write gets through, for the log; None while they do."""
        return self.host.ailing() if self._started else None

    @property
    def held(self) -> Budget | None:
        """What the host holds for callers."""
        return self.host.budget if self._started else None

    @property
    def unanswered(self) -> None:
        """The host is here, and counts what waits for it."""
        return

    async def start(self) -> None:
        """Open everything, once. Raises StoreError when the store cannot be opened."""
        if self._started:
            self.host.home.require("The client of a server")
            return
        await self._opening.once(lambda: self._started, self._open)

    async def _open(self) -> None:
        store = self._given
        if isinstance(store, str):
            store = self._store = await open_in_time(self._clock, store)
        self.host = Host(
            self.definitions,
            store,
            clock=self._clock,
            settings=self._settings,
            connect=self._connect,
            handle=self._handle,
            incarnation=self._incarnation,
        )
        self.calls = HostClient(self.host)
        self.directory = Directory(self.definitions, store, self._clock, self._settings.namespace)
        self.host.start()
        self._started = True

    def abandon(self) -> None:
        """Lose everything in memory, as a crash does: the store stays as it is."""
        if self._started:
            self._started = False
            self.host.abandon()
            self.calls.close()

    async def close(self) -> None:
        """Let turns finish, save everything, close the store. It can start again.

        Ends after `close_timeout` of the settings and `patience.STORE_CLOSE` seconds for the store.
        """
        if not self._started:
            return
        self._started = False
        await self.host.close()
        self.calls.close()
        store, self._store = self._store, None
        if store is not None:
            await close_store(self._clock, store)
