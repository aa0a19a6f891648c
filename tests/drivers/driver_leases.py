"""Time that passes for the leases of a store, for the conformance suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis


def age_in_memory(store: Any, seconds: float) -> None:
    now = store._leases.now
    store._leases.now = lambda: now() + seconds


async def age_on_redis(ports: Sequence[int], prefix: str, seconds: float) -> None:
    """What Redis keeps for ever stays; of the rest it takes that time away."""
    for port in ports:
        async with Redis(port=port, protocol=2) as client:
            async for key in client.scan_iter(f"{prefix}*:l", count=1000):
                for member, written in await client.zrange(key, 0, -1, withscores=True):
                    await client.zadd(key, {member: written - seconds})
                await client.pexpire(key, int(await client.pttl(key) - 1000 * seconds))
            async for key in client.scan_iter(f"{prefix}*:l:*", count=1000):
                left = await client.pttl(key)
                if left >= 0:
                    await client.pexpire(key, int(left - 1000 * seconds))
