"""The first expiry of an actor with `destroy_after`: its creation counts as a use.

The host that loads it saves later ones. If nobody ever loads it, this one ends it.
"""

from __future__ import annotations

import logging

from rivet_ray import ids
from rivet_ray.clock import Clock
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import StoreError
from rivet_ray.runtime.disuse import PART, first_expiry
from rivet_ray.runtime.patience import answered
from rivet_ray.runtime.store_clock import refreshed
from rivet_ray.store import ActorRecord, Claim, Commit, Store

log = logging.getLogger("rivet_ray.runtime")


async def expire_unused(
    store: Store, clock: Clock, definition: ActorDefinition, record: ActorRecord
) -> None:
    """Save when a new actor expires, unless a host has it by now. `clock` is the store's.

    Never raises: the actor is there, and who has created it goes on.
    """
    if definition.destroy_after is None:
        return
    try:
        await _save(store, clock, definition.destroy_after, record)
    except StoreError as error:
        log.warning("%s has no expiry until somebody uses it: %s", record, error)


async def _save(store: Store, clock: Clock, after: float, record: ActorRecord) -> None:
    owner = await answered(clock, store.find_ownership(record.id))
    if owner is None or owner.owner:
        return  # Hosts say their name: one has it already.
    # Not from under a host that claims it now: only as it was when nobody had it.
    taking = store.claim(record.id, ids.owner_token(), expected=owner)
    claim = await answered(clock, taking)
    if not isinstance(claim, Claim):
        return
    await refreshed(clock)
    expiry, part = first_expiry(clock.now(), after)
    first = Commit(
        record.id,
        claim.fence,
        claim.sequence + 1,
        put={PART: part},
        alarm=expiry,
        type=record.type,
    )
    for result in await answered(clock, store.commit([first])):
        if isinstance(result, StoreError):
            raise result
