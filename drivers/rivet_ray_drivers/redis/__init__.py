"""The store port on Redis, for many hosts: one server, one behind sentinels, or a cluster.

    redis://user:password@host:6379/0?prefix=rivet&durability=always
    redis+sentinel://user:password@sentinel:26379,sentinel:26379/service/0?prefix=rivet
    redis+cluster://user:password@node:6379,node:6379?prefix=rivet

With `rediss` for `redis` each speaks TLS, to sentinels and nodes too; `ssl_ca_certs`,
`ssl_certfile` and `ssl_keyfile` are paths. Sentinels have a `sentinel_username` and a
`sentinel_password` of their own. A `redis://` URL of a node stands for its cluster.

A write is acknowledged when Redis has answered, so it is as durable as the
server makes it: with `appendonly yes` and `appendfsync always` it survives a
kill of the server, with `everysec` the last second can be lost. `durability`
says what is demanded: a weaker server or node is named in the log. The server
must never evict (`maxmemory-policy noeviction`, the default).

A replica gets a write after its acknowledgement. A failover, by sentinels or in a
cluster, loses what the promoted replica had not received; an actor whose commit is
missing is told so by its next one, and a shard that is older than we have seen it is
refused, with all others of its server (see `identity`; `durability=everysec` or `none`
in the URL accepts that). `min-replicas-to-write 1` has a primary refuse
writes once it has lost its replicas, as one that was deposed has. A cluster needs
`cluster-require-full-coverage no`, so that one node's absence is its own.

**Layout.** Every actor lives in one of 1,024 shards, chosen by the first ten
bits of its id, so the shards are successive ranges of the ids. Generations of
one key differ only behind the first 16 digits of their ids, so they share a
shard and a hash, and no pointer from key to id is needed. All keys of a shard
share a hash tag and with it a slot of a cluster; each change is one script.

`docs/store-format.md` is the reference of all keys. Only `rivet:w` is in no shard: the
sets of alarms of all shards and types, by the earliest of each. It is derived, written
in the step that changes the earliest alarm of a set and built anew at each opening, so
that a look at the alarms does not visit 1,024 sets. A cluster, where no step can span it
and a shard, has none: each look reads which types have alarms in every shard, in one
round trip to each node, and then those sets alone that can hold one of the earliest due.
That is 0.4 to 0.9 ms of Redis's time, shared by the nodes, however many alarms there
are.

Times are kept as the shortest text of their double, so they come back to the
last bit. A lease that nobody writes expires after a day (`LEASE_KEPT`), and what is left
of a destroyed actor after 30 (`TOMBSTONE_KEPT`); nothing else expires.

**Formats.** Records, leases and identities carry their format, `v`, now 2. A
program refuses any other and touches nothing of it, in every script (`fields` in
`scripts`) and every reader (`wrong_format`). No release wrote format 1, so there is
no way from it. The way to a format 3: a claim holds the whole record of one actor
in one script, so it turns what it finds of format 2 into 3 there, and everything
else reads both; no pass over all actors, no stop. As old and new programs share a
store during an upgrade, that takes two versions: the first reads both and writes
2, the second writes 3. Leases and identities have no owner and no parts: a program
reads them in both formats and writes the new one the next time.
`tests/drivers/test_driver_redis_format.py` holds the bytes of 2.
"""

from rivet_ray_drivers.redis.opening import open_redis
from rivet_ray_drivers.redis.store import RedisStore

__all__ = ["RedisStore", "open_redis"]
