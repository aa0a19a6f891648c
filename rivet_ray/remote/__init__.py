"""Hosts in processes of their own, and the way to them (floor 4.5).

A `Worker` is a host that listens on its link; `Remote` is the backend of a
gateway whose actors live in workers. Neither knows what starts the processes:
Ray, a test, or `rivet-ray host`.
"""

from rivet_ray.remote.backend import Remote
from rivet_ray.remote.placement import Fixed, HostUnreachable, Placement
from rivet_ray.remote.routes import Routes
from rivet_ray.remote.worker import Worker

__all__ = ["Fixed", "HostUnreachable", "Placement", "Remote", "Routes", "Worker"]
