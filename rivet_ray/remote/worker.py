"""A host process: a store of its own, a host, and the link by which gateways reach it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from rivet_ray import ids
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.lasting_loop import new_event_loop
from rivet_ray.errors import RivetError, StoreError
from rivet_ray.link import LinkServer, cluster_secret
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.runtime.exchange import Handle
from rivet_ray.runtime.host import Connect
from rivet_ray.runtime.patience import answered, close_store, open_in_time
from rivet_ray.runtime.watchdog import Watchdog
from rivet_ray.store import Store

log = logging.getLogger("rivet_ray.remote")

BEAT = 1.0
"""Seconds between renewals of the host's lease."""
END_LEASE = 2.0
"""Seconds for the store to remove the lease of a host that ends."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Deposed(RivetError):
    """Somebody marked this host dead: its actors are elsewhere, and it must end."""

    code = "host_deposed"


class Worker:
    """Opens its store, however long that takes, and listens only then.

    Until it listens gateways keep their calls; there is nothing here that could
    answer them. After that a store that is away is the host's own affair.
    """

    def __init__(
        self,
        definitions: Mapping[str, ActorDefinition],
        store: str,
        *,
        secret: str | bytes | None = None,
        settings: HostSettings | None = None,
        clock: Clock | None = None,
        connect: Callable[[Standalone], Connect] | None = None,
        handle: Handle | None = None,
    ) -> None:
        """`secret` is the environment's RIVET_CLUSTER_SECRET where it is not given.

        `connect` gives actors their way to others, `handle` serves raw requests.
        Raises InvalidSecret; touches neither the store nor the network.
        """
        self.incarnation = ids.owner_token()
        self._definitions = definitions
        self._url = store
        self._secret = cluster_secret(secret)
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._connect = connect
        self._handle = handle
        self._store: Store | None = None
        self._standalone: Standalone | None = None
        self._link: LinkServer | None = None
        self._deposed = False

    @property
    def address(self) -> str:
        """Where gateways reach it, `host:port`; empty until it listens."""
        return self._link.address if self._link is not None else ""

    async def run(
        self,
        address: str = "127.0.0.1",
        port: int | range = 0,
        *,
        advertise: str | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        """Serve until cancelled, then let turns finish, save everything and end.

        `ready` is told the address. Raises Deposed, or LinkError when no port
        can be had.
        """
        try:
            store = self._store = await self._open()
            standalone = self._standalone = Standalone(
                self._definitions,
                store,
                clock=self._clock,
                settings=self._settings,
                connect=self._connect,
                handle=self._handle,
                incarnation=self.incarnation,
            )
            await standalone.start()
            link = LinkServer(standalone.host, self._secret, clock=self._clock)
            await link.start(address, port, advertise=advertise)
            self._link = link
            if ready is not None:
                ready(link.address)
            with Watchdog((self._settings or HostSettings()).blocked_after):
                await self._beat(store)
        except Deposed:
            self._deposed = True
            if self._standalone is not None:
                self._standalone.abandon()
            raise
        finally:
            await self._close()

    async def _open(self) -> Store:
        pause, told = FIRST_PAUSE, ""
        while True:
            try:
                return await open_in_time(self._clock, self._url)
            except StoreError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the store cannot be opened, trying again: %s", told)
            await self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _beat(self, store: Store) -> None:
        beat, told = 1, ""
        while True:
            try:
                renewing = store.renew_lease(self.incarnation, beat, self.address)
                alive = await answered(self._clock, renewing)
            except StoreError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the host's lease is not renewed, trying again: %s", told)
            else:
                told = ""
                if not alive:
                    raise Deposed("This host was marked dead, or its lease is gone.")
                beat += 1  # Not before: the first beat alone makes a lease.
            await self._sleep(BEAT)

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    async def _close(self) -> None:
        if self._standalone is not None:
            await self._standalone.close()
        if self._link is not None:
            await self._link.close()
        if self._store is not None:
            # A dead mark stays, so that this incarnation can never beat again.
            if not self._deposed:
                try:
                    ending = self._store.end_lease(self.incarnation)
                    await answered(self._clock, ending, END_LEASE)
                except StoreError as error:
                    log.warning("the host's lease is not removed: %s", error)
            await close_store(self._clock, self._store)


def run_on_own_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a worker on a new event loop, the fastest there is here; blocks."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)
