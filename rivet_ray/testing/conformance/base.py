"""What the parts of the suite share: the hooks of driver authors, an owner of an actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from rivet_ray.store import ActorRecord, Claim, Commit, CommitResult, NewActor, Store

CREATED_AT = 1_700_000_000.123456


class ConformanceBase:
    """The hooks, and the fixture that uses the first."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    _open: Store | None = None

    async def open_store(self) -> Store:
        """A store with nothing in it."""
        raise NotImplementedError(f"{type(self).__qualname__}.open_store is not defined")

    async def age_leases(self, store: Store, seconds: float) -> None:
        """Make every lease of the store older by so many seconds, by the store's own time."""
        pytest.skip(f"{type(self).__qualname__}.age_leases is not defined")

    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[Store]:
        """The store of one test, closed at its end."""
        self._open = await self.open_store()
        yield self._open
        await self._open.close()


class Owner:
    """An owner of one actor, who numbers its commits as the runtime does."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self.store = store
        self.id = claim.record.id
        self.record = claim.record
        self.fence = claim.fence
        self.sequence = claim.sequence

    def next(self, **change: Any) -> Commit:
        """The owner's next commit, for a batch; it counts as sent."""
        self.sequence += 1
        change.setdefault("type", self.record.type)
        return Commit(self.id, self.fence, self.sequence, **change)

    async def commit(self, **change: Any) -> Commit:
        """Make the owner's next commit, which must be accepted."""
        commit = self.next(**change)
        assert await self.store.commit([commit]) == [CommitResult.COMMITTED]
        return commit


async def create(
    store: Store, name: str = "counter", key: Sequence[str] = ("k",), namespace: str = "default"
) -> ActorRecord:
    """Create an actor, which must be new."""
    record, created = await store.create(
        NewActor(namespace, name, tuple(key), created_at=CREATED_AT)
    )
    assert created
    return record


async def owner_of(store: Store, record: ActorRecord, token: str = "owner") -> Owner:
    """Claim an actor, which must live."""
    claim = await store.claim(record.id, token)
    assert isinstance(claim, Claim)
    return Owner(store, claim)


async def create_owned(store: Store, *key: str) -> Owner:
    """A new actor with an owner; without parts, its key is `("k",)`."""
    return await owner_of(store, await create(store, key=key or ("k",)))


async def look(store: Store, actor_id: str) -> Claim:
    """What is stored of an actor. Only a claim tells, so its owner is fenced by this."""
    claim = await store.claim(actor_id, "onlooker")
    assert isinstance(claim, Claim)
    return claim
