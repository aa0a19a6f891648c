"""A directory here, and hosts elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rivet_ray import ids
from rivet_ray.budget import Budget
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.definition import ActorDefinition
from rivet_ray.link import cluster_secret
from rivet_ray.remote.placement import Placement
from rivet_ray.remote.routes import Routes
from rivet_ray.runtime import Directory
from rivet_ray.runtime.deadline import within
from rivet_ray.runtime.patience import Opening, close_store, open_in_time
from rivet_ray.runtime.unanswered import Unanswered
from rivet_ray.store import Store

log = logging.getLogger("rivet_ray.remote")

PLACEMENT_CLOSE = 5.0
"""Seconds for what finds hosts to end."""


class Remote:
    """The backend of a gateway of a cluster; see `rivet_ray.gateway.Backend`."""

    directory: Directory
    """Available once `start` has returned."""
    calls: Routes
    """Available once `start` has returned."""

    def __init__(
        self,
        definitions: Mapping[str, ActorDefinition],
        store: str,
        placement: Placement,
        *,
        secret: str | bytes | None = None,
        namespace: str = ids.DEFAULT_NAMESPACE,
        clock: Clock | None = None,
        unanswered: Unanswered | None = None,
    ) -> None:
        """`secret` is the environment's RIVET_CLUSTER_SECRET where it is not given.

        `unanswered` bounds the bytes of calls and connections that wait for a host or its
        answer: by default 256 MiB, and 64 MiB for each caller.

        Raises InvalidSecret.
        """
        self.definitions = definitions
        self._url = store
        self._placement = placement
        self._secret = cluster_secret(secret)
        self._namespace = namespace
        self._clock: Clock = clock or SystemClock()
        self._unanswered = unanswered or Unanswered()
        self._store: Store | None = None
        self._opening = Opening()

    @property
    def started(self) -> bool:
        return self._store is not None

    def ailing(self) -> str | None:
        """Not known here: the hosts are elsewhere, and each sees to its own writes."""
        return None

    @property
    def held(self) -> None:
        """The hosts hold it, in their own processes."""
        return

    @property
    def unanswered(self) -> Budget:
        """What calls and connections hold here while they wait for a host or its answer."""
        return self._unanswered.budget

    async def start(self) -> None:
        """Open the directory's store, once. Raises StoreError when it cannot be opened."""
        await self._opening.once(lambda: self.started, self._open)

    async def _open(self) -> None:
        store = await open_in_time(self._clock, self._url)
        self.directory = Directory(
            self.definitions, store, self._clock, self._namespace, secret=self._secret
        )
        self.calls = Routes(self._placement, self._secret, self._clock, self._unanswered)
        self._store = store

    async def close(self) -> None:
        """End every session, and what finds hosts and the store, within a deadline each."""
        store, self._store = self._store, None
        if store is not None:
            self.calls.close()
            try:
                async with within(self._clock, PLACEMENT_CLOSE, "the end of the placement"):
                    await self._placement.close()
            except Exception as error:
                log.error("the placement is not closed in good order: %s", error)
            await close_store(self._clock, store)
