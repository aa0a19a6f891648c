"""What `rivet-ray doctor` says of a Redis: of its server, or of each primary of a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from rivet_ray.errors import StoreError
from rivet_ray.store import Finding, Verdict
from rivet_ray_drivers.redis.connection import Command, Node, RedisConnection, Reply
from rivet_ray_drivers.redis.identity import Identity
from rivet_ray_drivers.redis.layout import SHARDS
from rivet_ray_drivers.redis.location import Durability, Kind, Location

log = logging.getLogger("rivet_ray.store")

SETTINGS = (
    "appendfsync",
    "min-replicas-to-write",
    "no-appendfsync-on-rewrite",
    "save",
)
"""What INFO does not tell. A managed server may forbid to ask."""

OLDEST = (7, 0)
"""The oldest version that the tests run on."""
CLOCKS_APART = 1.0
"""Seconds between the server's clock and ours that are worth a word."""
NEARLY_FULL = 0.9

SURVIVES = {
    Durability.ALWAYS: "every acknowledged change survives a kill of Redis and a loss of power",
    Durability.EVERYSEC: "a kill of Redis loses nothing, but for what waits behind a slow disk;"
    " a loss of power loses the last second or two",
    Durability.NONE: "a kill of Redis or a loss of power loses what was acknowledged",
}


@dataclass(frozen=True)
class Server:
    """What the server told us. A value that it kept to itself is None."""

    info: Mapping[str, str]
    settings: Mapping[str, str]
    clock_ahead: float | None
    """Seconds that its clock is ahead of ours."""

    def number(self, name: str) -> int:
        text = self.info.get(name, "0")
        return int(text) if text.isdigit() else 0

    @property
    def durability(self) -> Durability | None:
        """None where it cannot be found out."""
        if self.info.get("aof_enabled") == "0":
            return Durability.NONE
        match self.settings.get("appendfsync"):
            case "always":
                return Durability.ALWAYS
            case "everysec":
                return Durability.EVERYSEC
            case "no":
                return Durability.NONE
            case _:
                return None


async def examine(connection: RedisConnection, identity: Identity) -> list[Finding]:
    """Look at everything and change nothing. Raises StoreError where no server answers."""
    place = connection.place
    servers = await connection.of_each(partial(_ask, connection))
    found = [_place(place, connection), _identity(place, identity)]
    for at, server in servers:
        of = f" of {at}" if place.kind is Kind.CLUSTER else ""
        if isinstance(server, StoreError):
            advice = "Its actors wait until it is back or has a successor."
            found.append(Finding(f"server{of}", str(server), Verdict.PROBLEM, advice))
        else:
            found += [
                replace(finding, subject=f"{finding.subject}{of}")
                for finding in findings(server, place.durability)
            ]
    return found


async def warn_of_durability(connection: RedisConnection) -> None:
    """Say in the log where less is kept than the URL demands, or where that is not known."""
    demanded = connection.place.durability
    for at, server in await connection.of_each(partial(_ask, connection)):
        if isinstance(server, StoreError):
            log.warning("What Redis at %s keeps is not known: %s", at, server)
        elif (finding := durability(server, demanded)).alarming:
            log.warning("Redis at %s: %s. %s", at, finding.found, finding.advice)


async def _ask(connection: RedisConnection, node: Node) -> Server:
    """One round trip. Raises StoreError where the server does not even tell INFO."""
    before = time.time()
    info, clock, *settings = await connection.answers_of(
        node,
        [
            Command((b"INFO",)),
            Command((b"TIME",)),
            *(Command((b"CONFIG", b"GET", name)) for name in SETTINGS),
        ],
    )
    middle = (before + time.time()) / 2
    if isinstance(info, StoreError):
        raise info
    found: dict[str, str] = {}
    for name, reply in zip(SETTINGS, settings, strict=True):
        value = _second(reply)
        if value is not None:
            found[name] = value
    return Server(_fields(info), found, _ahead(clock, middle))


def _second(reply: Reply) -> str | None:
    match reply:
        case [bytes(), bytes() as value]:
            return value.decode("utf-8", "replace")
        case _:
            return None


def _fields(reply: Reply) -> dict[str, str]:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in pairs if separator}


def _ahead(reply: Reply, now: float) -> float | None:
    match reply:
        case [bytes() as seconds, bytes() as microseconds]:
            return int(seconds) + int(microseconds) / 1e6 - now
        case _:
            return None


# --- Findings ----------------------------------------------------------------


def findings(server: Server, demanded: Durability | None) -> list[Finding]:
    return [
        _version(server),
        _role(server),
        durability(server, demanded),
        _rewriting(server),
        _disk(server),
        _eviction(server),
        _memory(server),
        _replicas(server),
        _clock(server),
    ]


def _place(place: Location, connection: RedisConnection) -> Finding:
    text = f"Redis at {place}, database {place.database}"
    if place.kind is Kind.SENTINELS:
        text += f", primary {', '.join(str(node.place) for node in connection.servers)}"
    return Finding("server", text)


def _identity(place: Location, identity: Identity) -> Finding:
    text = f"{identity.name or 'none yet'} under the prefix {place.prefix!r}"
    if lost := identity.lost_shards:
        advice = (
            "Restore a backup; a process that starts goes on with what is left,"
            " one that runs refuses these shards."
        )
        text += f": {lost} of {SHARDS} shards lost their data"
        return Finding("store", text, Verdict.PROBLEM, advice)
    return Finding("store", text)


def _version(server: Server) -> Finding:
    text = server.info.get("redis_version", "")
    parts = [int(part) for part in text.split(".")[:2] if part.isdigit()]
    if len(parts) < 2:
        return Finding("version", "not told", Verdict.UNKNOWN)
    if (parts[0], parts[1]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Finding("version", text, Verdict.WARNING, f"Tested from {oldest} on: upgrade it.")
    return Finding("version", text)


def _role(server: Server) -> Finding:
    role = server.info.get("role", "")
    if role == "master":
        return Finding("role", "primary")
    if role == "slave":
        advice = "It takes no writes: name the primary in the URL."
        return Finding("role", "replica", Verdict.PROBLEM, advice)
    return Finding("role", "not told", Verdict.UNKNOWN)


def durability(server: Server, demanded: Durability | None) -> Finding:
    """What is kept, beside what the URL demands."""
    found = server.durability
    if found is None:
        what = "appendfsync is not told (CONFIG GET is forbidden)"
        if demanded not in (None, Durability.NONE):
            advice = f"The URL demands {demanded.value}, which cannot be confirmed."
            return Finding("durability", what, Verdict.WARNING, advice)
        return Finding("durability", what, Verdict.UNKNOWN)
    what = f"{_how(server)}: {SURVIVES[found]}"
    if demanded is not None and found.weaker_than(demanded):
        cure = f"The URL demands {demanded.value}: {_cure(demanded)}"
        return Finding("durability", what, Verdict.PROBLEM, cure)
    if demanded is None and found is not Durability.ALWAYS:
        cure = (
            f"{_cure(Durability.ALWAYS)} Or say that it is meant so:"
            f" ?durability={found.value} in the URL."
        )
        return Finding("durability", what, Verdict.WARNING, cure)
    return Finding("durability", what)


def _how(server: Server) -> str:
    if server.info.get("aof_enabled") != "0":
        return f"appendonly yes, appendfsync {server.settings['appendfsync']}"
    if server.settings.get("save"):
        return f"appendonly no, snapshots by save {server.settings['save']}"
    return "appendonly no"


def _cure(wanted: Durability) -> str:
    return f"set appendonly yes and appendfsync {wanted.value}."


def _rewriting(server: Server) -> Finding:
    if server.settings.get("no-appendfsync-on-rewrite") != "yes":
        return Finding("fsync while it rewrites", "not switched off")
    advice = "While it rewrites its log nothing is fsynced: set no-appendfsync-on-rewrite no."
    return Finding("fsync while it rewrites", "switched off", Verdict.WARNING, advice)


def _disk(server: Server) -> Finding:
    names = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    failed = [name for name in names if server.info.get(name, "ok") != "ok"]
    if failed:
        advice = "It cannot write to its disk, and refuses our writes or will: look at its log."
        return Finding("disk", f"{', '.join(failed)}: err", Verdict.PROBLEM, advice)
    return Finding("disk", "its last writes succeeded")


def _eviction(server: Server) -> Finding:
    policy = server.info.get("maxmemory_policy")
    if policy is None:
        return Finding("eviction", "not told", Verdict.UNKNOWN)
    evicted = server.number("evicted_keys")
    if policy.startswith("allkeys"):
        advice = "It throws our data away when its memory is full: set maxmemory-policy noeviction."
        text = f"{policy}, {evicted} keys evicted since its start"
        return Finding("eviction", text, Verdict.PROBLEM, advice)
    # Ours never expire, so they are not among what volatile-* may take.
    return Finding("eviction", f"{policy}, which takes nothing of ours")


def _memory(server: Server) -> Finding:
    used, limit = server.number("used_memory"), server.number("maxmemory")
    if not limit:
        return Finding("memory", f"{used / 2**20:.0f} MiB used, no maxmemory")
    text = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used"
    if used > NEARLY_FULL * limit:
        advice = "At its maxmemory it refuses every write: raise it, or remove something."
        return Finding("memory", text, Verdict.WARNING, advice)
    return Finding("memory", text)


def _replicas(server: Server) -> Finding:
    count = server.number("connected_slaves")
    if not count:
        return Finding("replicas", "none, so there is no failover that could lose writes")
    wanted = server.settings.get("min-replicas-to-write")
    if wanted is None:
        return Finding("replicas", f"{count}; min-replicas-to-write not told", Verdict.UNKNOWN)
    text = f"{count}, min-replicas-to-write {wanted}"
    if wanted == "0":
        advice = (
            "A failover loses what the replica had not received: set min-replicas-to-write 1 and"
            " min-replicas-max-lag to bound it. Replication is asynchronous even so."
        )
        return Finding("replicas", text, Verdict.WARNING, advice)
    return Finding("replicas", f"{text}; a failover may lose the replicas' lag")


def _clock(server: Server) -> Finding:
    ahead = server.clock_ahead
    if ahead is None:
        return Finding("clock", "not told", Verdict.UNKNOWN)
    text = f"{abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(ahead) > CLOCKS_APART:
        advice = "Schedules fire by the clocks of their hosts: keep all machines in step with NTP."
        return Finding("clock", text, Verdict.WARNING, advice)
    return Finding("clock", text)
