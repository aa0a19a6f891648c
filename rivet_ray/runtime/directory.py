"""The directory: from what a client means to the id of an actor."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from rivet_ray import ids
from rivet_ray.budget import MIB, Budget, size_of_text
from rivet_ray.clock import Clock
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import (
    ActorAlreadyExists,
    ActorNotFound,
    ActorStopped,
    InvalidRequest,
    Outcome,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.queries import ActorQuery, Create, GetById, GetByKey, GetOrCreate, check_key
from rivet_ray.runtime.patience import Patience
from rivet_ray.runtime.store_clock import clock_of
from rivet_ray.runtime.unused import expire_unused
from rivet_ray.store import ActorRecord, NewActor, Store, probe

T = TypeVar("T")

REMEMBERED = 64 * MIB
"""Bytes of the actors that are remembered; the one that was used longest ago is forgotten."""
SECRET = ("rivet_ray/secrets", "secret", ("gateways",))
"""Namespace, name and key of what a store keeps for gateways; no actor is in that namespace."""
RECORD = 512
"""Bytes that one counts for beside its key and its input."""
LIVES = 16
"""How many lives of an actor may end before a call begins in one."""


class Directory:
    """Finds and creates actors of one namespace, and remembers what it found."""

    def __init__(
        self,
        definitions: Mapping[str, ActorDefinition],
        store: Store,
        clock: Clock,
        namespace: str = ids.DEFAULT_NAMESPACE,
        *,
        secret: bytes | None = None,
    ) -> None:
        """`secret` is the deployment's; where it has none the store keeps one."""
        self._definitions = definitions
        self._secret = secret
        self._store = store
        self._clock = clock_of(store, clock)
        self._patience = Patience(clock)
        self._namespace = namespace
        self._budget = Budget("directory", REMEMBERED)
        self._known: OrderedDict[tuple[str, ids.Key], ActorRecord] = OrderedDict()

    def definition(self, name: str) -> ActorDefinition:
        """The actor type of that name. Raises ActorNotFound."""
        definition = self._definitions.get(name)
        if definition is None:
            raise ActorNotFound(f"No actor type is called {name!r}.", outcome=Outcome.NOT_STARTED)
        return definition

    async def check(self) -> None:
        """Ask the store for something small. Raises StoreError where it does not answer."""
        await self._store.find_by_id("health")

    async def secret(self) -> bytes:
        """What every gateway of this store knows, over restarts, and nobody outside.

        Raises StoreError where it cannot be read.
        """
        if self._secret is None:
            made = NewActor(
                *SECRET,
                input=secrets.token_bytes(32),
                created_at=self._clock.now(),
            )
            # Whoever asks first makes it. It is a record as any, which every driver keeps.
            record, _ = await self._patience.again(lambda: self._store.create(made))
            self._secret = record.input or b""
        return self._secret

    async def secret_if_made(self) -> bytes | None:
        """The same where there is one; writes nothing. Raises StoreError."""
        if self._secret is None:
            record = await self._patience.again(lambda: self._store.find(*SECRET))
            self._secret = None if record is None else record.input or b""
        return self._secret

    async def check_writes(self) -> None:
        """Have the store write something small. Raises StoreError where it cannot."""
        await probe(self._store)

    async def name_of(self, query: ActorQuery) -> str:
        """The actor type that a query means; touches the store for ids only."""
        if isinstance(query, GetById):
            return (await self._by_id(query.actor_id)).name
        return query.name

    async def resolve(self, query: ActorQuery) -> ActorRecord:
        """The actor that a query means, created where the query asks for it.

        Raises ActorNotFound, ActorAlreadyExists, and InvalidArgument or
        InvalidRequest for an input or key that does not fit.
        """
        if isinstance(query, GetById):
            return await self._by_id(query.actor_id)
        self.definition(query.name)
        record = await self._find_or_create(query)
        self._remember((query.name, tuple(query.key)), record)
        return record

    def _remember(self, place: tuple[str, ids.Key], record: ActorRecord) -> None:
        known = self._known.pop(place, None)
        if known is not None:
            self._budget.give_back(_cost(known))
        self._known[place] = record
        self._budget.hold(_cost(record))
        while self._budget.held > self._budget.limit and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._budget.give_back(_cost(oldest))

    async def reach(self, query: ActorQuery, use: Callable[[ActorRecord], Awaitable[T]]) -> T:
        """Resolve a query and use the actor.

        An actor that was remembered and turns out to be destroyed is looked up
        again; nothing of the try before was started then. Raises ActorStopped for one
        that is destroyed again and again.
        """
        record = self._remembered(query) or await self.resolve(query)
        for _ in range(LIVES):
            try:
                return await use(record)
            except ActorNotFound as error:
                if error.outcome is not Outcome.NOT_STARTED or isinstance(query, (GetById, Create)):
                    raise
                fresh = await self.resolve(query)
                if fresh.id == record.id:
                    raise
                record = fresh
        raise ActorStopped(
            f"The actor was destroyed {LIVES} times before the call could begin.",
            outcome=Outcome.NOT_STARTED,
        )

    def _remembered(self, query: ActorQuery) -> ActorRecord | None:
        if isinstance(query, (GetById, Create)):
            return None
        place = (query.name, tuple(query.key))
        known = self._known.get(place)
        if known is not None:
            self._known.move_to_end(place)
        return known

    async def _by_id(self, actor_id: str) -> ActorRecord:
        record = await self._patience.again(lambda: self._store.find_by_id(actor_id))
        if (
            record is None
            or record.namespace != self._namespace
            or record.name not in self._definitions
        ):
            raise ActorNotFound("The actor does not exist.", outcome=Outcome.NOT_STARTED)
        return record

    async def _find_or_create(self, query: GetByKey | GetOrCreate | Create) -> ActorRecord:
        key = tuple(query.key)
        check_key(key)
        if isinstance(query, GetByKey):
            found = await self._patience.again(
                lambda: self._store.find(self._namespace, query.name, key)
            )
            if found is not None:
                return found
            raise ActorNotFound(
                f"There is no {query.name} with the key {list(key)}.", outcome=Outcome.NOT_STARTED
            )
        actor = NewActor(
            namespace=self._namespace,
            name=query.name,
            key=key,
            input=self._input(query),
            region=query.region,
            created_at=self._clock.now(),
        )
        if isinstance(query, GetOrCreate):
            record, created = await self._patience.again(lambda: self._store.create(actor))
            # An answer may have been lost, and the same creation repeated.
            if created or record.created_at == actor.created_at:
                await self._created(record)
            return record
        # Not tried again: a first try that came through would look like somebody else's actor.
        record, created = await self._patience.once(lambda: self._store.create(actor))
        if not created:
            raise ActorAlreadyExists(
                f"There is already a {query.name} with the key {list(key)}.",
                outcome=Outcome.NOT_STARTED,
            )
        await self._created(record)
        return record

    async def _created(self, record: ActorRecord) -> None:
        await expire_unused(self._store, self._clock, self.definition(record.name), record)

    def _input(self, query: GetOrCreate | Create) -> bytes | None:
        if isinstance(query.input, msgspec.UnsetType):
            self.definition(query.name).decode("Input", None)
            return None
        try:
            data = values.encode(msgspec.json.decode(query.input))
        except (msgspec.DecodeError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"The input cannot be read: {error}") from error
        self.definition(query.name).decode("Input", data, None)
        return data


def _cost(record: ActorRecord) -> int:
    return RECORD + sum(map(size_of_text, record.key)) + len(record.input or b"")
