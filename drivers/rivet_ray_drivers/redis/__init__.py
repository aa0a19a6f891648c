"""`redis://` and `rediss://`: the store port on a Redis server, for many hosts.

    redis://user:password@host:6379/0?prefix=rivet

A write is acknowledged when Redis has answered, so it is as durable as the
server makes it: with `appendonly yes` and `appendfsync always` it survives a
kill of the server, with `everysec` the last second can be lost. The server
must never evict (`maxmemory-policy noeviction`, the default), and no replica
may be promoted that has not seen what was acknowledged.

**Layout.** Every actor lives in one of 1,024 shards, chosen by the first ten
bits of its id, so the shards are successive ranges of the ids. Generations of
one key differ only behind the first 16 digits of their ids, so they share a
shard and a hash, and no pointer from key to id is needed. All keys of a shard
share a hash tag and with it a slot of a cluster; each change is one script.

`rivet{rr:137}:a:<16 digits>`  hash, what is known of all generations of a key
    `v`                        format of this record, 1
    `generation`, `epoch`      kept over destroys
    `created`                  seconds as text; only where an actor lives now
    `place`                    namespace, name and key, packed
    `input`, `region`          absent where none was given
    `token`, `sequence`        of the owner and its last commit; absent before
    `p:<name>`                 the parts of the snapshot
`rivet{rr:137}:t:<16 digits>`  hash, generation to `epoch sequence token` of its destroy
`rivet{rr:137}:w`              sorted set, ids of actors by the time of their alarm
`rivet{rr:137}:n`              sorted set, ids of living actors, all of score 0
`rivet{rr:137}:l:<incarnation>` hash, a host's lease: `v`, `beat`, `address`, `dead`
`rivet:w`                      sorted set, the keys of the shards' alarms by the
                               earliest of each

Only `rivet:w` is in no shard. It is derived, written in the step that changes a
shard's earliest alarm and built anew at each opening; without it each look at
the alarms would visit 1,024 sets (4 ms of Redis's time instead of 15 us). A
cluster, where no step can span it and a shard, has to visit the shards.

Times are kept as the shortest text of their double, so they come back to the
last bit. Nothing expires: a destroyed actor leaves `generation` and `epoch`,
and one field of its tombstone.
"""

from rivet_ray_drivers.redis.store import RedisStore, open_redis

__all__ = ["RedisStore", "open_redis"]
