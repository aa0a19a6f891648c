"""Opening the store on whatever a URL names."""

from __future__ import annotations

from rivet_ray.store import Store
from rivet_ray_drivers.redis.cluster import ClusterConnection
from rivet_ray_drivers.redis.cluster_store import ClusterStore
from rivet_ray_drivers.redis.connection import RedisConnection
from rivet_ray_drivers.redis.failures import NodeOfCluster
from rivet_ray_drivers.redis.location import Kind, Location, location_of
from rivet_ray_drivers.redis.sentinel import SentinelConnection
from rivet_ray_drivers.redis.store import RedisStore


async def open_redis(url: str) -> Store:
    """Open the store on the Redis that `url` names: see `location.FORMS`.

    A server that turns out to be a node of a cluster stands for that cluster.
    Raises StoreError when the URL or the server cannot be used and
    StoreUnavailable when the server does not answer.
    """
    return await open_location(location_of(url))


async def open_location(place: Location) -> RedisStore:
    try:
        return await _opened(_store(place))
    except NodeOfCluster:
        if place.kind is not Kind.SERVER or place.database:
            raise
        return await _opened(_store(place.as_cluster()))


def _store(place: Location) -> RedisStore:
    match place.kind:
        case Kind.SERVER:
            return RedisStore(RedisConnection(place))
        case Kind.SENTINELS:
            return RedisStore(SentinelConnection(place))
        case Kind.CLUSTER:
            return ClusterStore(ClusterConnection(place))


async def _opened(store: RedisStore) -> RedisStore:
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
