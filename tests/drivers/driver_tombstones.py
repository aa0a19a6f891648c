"""Lives of a key that end, for the tests of what a driver keeps of them."""

from __future__ import annotations

from rivet_ray.store import Claim, Commit, CommitResult, NewActor, Store


async def destroyed(store: Store, key: str) -> Commit:
    """The commit that ended one life of a key."""
    record, created = await store.create(NewActor("default", "counter", (key,)))
    assert created
    claim = await store.claim(record.id, "owner")
    assert isinstance(claim, Claim)
    destroy = Commit(record.id, claim.fence, 1, destroy=True, type=record.type)
    assert await store.commit([destroy]) == [CommitResult.COMMITTED]
    return destroy
