"""The runtime: actors come to life in a `Host` (floor 4).

asyncio only: clock and store are injected, callers come in through the port.
"""

from rivet_ray.runtime.calls import HostClient
from rivet_ray.runtime.directory import Directory
from rivet_ray.runtime.following import FollowingClient
from rivet_ray.runtime.host import Host
from rivet_ray.runtime.ports import Calls, Sink
from rivet_ray.runtime.settings import HostSettings
from rivet_ray.runtime.standalone import Standalone
from rivet_ray.runtime.tunnel import Tunnel

__all__ = [
    "Calls",
    "Directory",
    "FollowingClient",
    "Host",
    "HostClient",
    "HostSettings",
    "Sink",
    "Standalone",
    "Tunnel",
]
