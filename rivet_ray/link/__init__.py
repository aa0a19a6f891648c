"""The link: the port between a gateway and a host over one TCP connection (floor 4).

The cluster secret admits the peer; after that the link trusts it. What it
carries is neither encrypted nor signed: the network between nodes has to be
private. asyncio only, no tasks: everything happens in callbacks of the event
loop that opened it.
"""

from rivet_ray.link.client import LinkClient
from rivet_ray.link.faults import (
    HandshakeFailed,
    InvalidSecret,
    LinkError,
    LinkGarbled,
    LinkOverflow,
    LinkSilent,
    VersionMismatch,
    WrongSecret,
)
from rivet_ray.link.secret import cluster_secret
from rivet_ray.link.server import LinkServer
from rivet_ray.link.settings import LinkSettings
from rivet_ray.link.statistics import LinkStatistics

__all__ = [
    "HandshakeFailed",
    "InvalidSecret",
    "LinkClient",
    "LinkError",
    "LinkGarbled",
    "LinkOverflow",
    "LinkServer",
    "LinkSettings",
    "LinkSilent",
    "LinkStatistics",
    "VersionMismatch",
    "WrongSecret",
    "cluster_secret",
]
