"""What a fault of Redis means to the users of a store."""

from __future__ import annotations

import os
import re
import socket

from redis import exceptions

from rivet_ray.errors import StoreError, StoreLostData, StoreUnavailable
from rivet_ray_drivers.redis.layout import FORMAT
from rivet_ray_drivers.redis.location import Location

PASSING = {
    "BUSY": "a script holds it up",
    "CLUSTERDOWN": "its cluster is down",
    "LOADING": "it still loads its data",
    "MASTERDOWN": "its primary is down",
    "MISCONF": "it cannot write to its disk",
    "NOREPLICAS": "it has too few replicas",
    "OOM": "it is out of memory; raise maxmemory or free some",
    "READONLY": "it is a read-only replica now",
    "TRYAGAIN": "its cluster moves slots",
}
"""Faults that end when somebody mends the server: nothing was written, or it is unknown."""

LASTING = {
    "CROSSSLOT": "it is a node of a cluster and was used as a single server; open the store again",
    "MOVED": "it is a node of a cluster and was used as a single server; open the store again",
    "ASK": "it is a node of a cluster and was used as a single server; open the store again",
    "NOPERM": "its user may not run this command",
    "WRONGTYPE": "a key of ours holds something that is not ours; use another prefix",
}

OLD_SCRIPT_FAULT = re.compile(r"@user_script: ?\d+: -([A-Z]+) ")
"""How Redis before 7 wraps the fault of a command in a script."""

FORMAT_FAULT = re.compile(r"rivet format (\S+)")
"""What our scripts raise for a record of another version."""

LOST = re.compile(r"rivet lost ([a-z]+)")
"""What our scripts raise where a shard is not what its store has seen; a key of LOSSES."""

LOSSES = {
    "empty": "has lost our data: they are not there any more",
    "other": "has lost our data and holds a newer store in their place",
    "older": "holds older data than it has confirmed",
}


def lost_data(place: Location, how: str) -> StoreLostData:
    return StoreLostData(
        f"Redis at {place} {LOSSES[how]}. Nothing is read or written there until they are"
        " back; to go on with what is left, start every process of rivet_ray again.",
        metadata={"data": how},
    )


class NodeOfCluster(StoreError):
    """The server that was to be used alone is part of a cluster."""

    def __init__(self, place: Location) -> None:
        super().__init__(
            f"Redis at {place} is a node of a cluster, which has database 0 alone:"
            " write redis+cluster:// without a database."
        )


def wrong_format(found: str) -> StoreError:
    if found.isdigit() and int(found) < FORMAT:
        cure = "it cannot read that: use another prefix or database, or remove those keys"
    else:
        cure = "upgrade it"
    return StoreError(
        f"Redis holds a record of format {found}, and this version of rivet_ray"
        f" knows format {FORMAT} only: {cure}."
    )


def silent(place: Location, reason: object) -> StoreUnavailable:
    return StoreUnavailable(f"Redis at {place} does not answer: {reason}.")


def failure_of(error: Exception, place: Location) -> StoreError:
    """The error of ours that stands for one of redis-py's or of the system's."""
    text = str(error).strip().rstrip(".")
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return StoreUnavailable(f"Redis at {place} refuses our user or password: {text}.")
        case exceptions.BusyLoadingError():
            return StoreUnavailable(f"Redis at {place} refuses: {PASSING['LOADING']}.")
        case exceptions.ResponseError():
            return _refusal_of(error, text, place)
        case (
            exceptions.ConnectionError()
            | exceptions.TimeoutError()
            | exceptions.InvalidResponse()
            | OSError()
        ):
            return silent(place, _reason_of(error) or text or type(error).__name__)
        case _:
            return StoreError(f"What was given to Redis at {place} cannot be stored: {text}.")


def _reason_of(error: Exception) -> str | None:
    """What the system said, where redis-py's words only wrap its number."""
    match error.__context__:
        case socket.gaierror() as unknown:
            return unknown.strerror
        case ConnectionError() as refused if refused.errno:
            return os.strerror(refused.errno)
        case _:
            return None


def _refusal_of(error: exceptions.ResponseError, text: str, place: Location) -> StoreError:
    if found := FORMAT_FAULT.search(text):
        return wrong_format(found[1])
    if found := LOST.search(text):
        return lost_data(place, found[1])
    if text.endswith("SELECT is not allowed in cluster mode"):
        return NodeOfCluster(place)
    status = getattr(error, "status_code", None)
    code = status if isinstance(status, str) else text.partition(" ")[0]
    if wrapped := OLD_SCRIPT_FAULT.search(text):
        code = wrapped[1]
    if reason := PASSING.get(code):
        return StoreUnavailable(f"Redis at {place} refuses: {reason} ({code}).")
    if reason := LASTING.get(code):
        return StoreError(f"Redis at {place} refuses: {reason} ({code}).")
    return StoreError(f"Redis at {place} refuses: {text}.")
