"""The gateway: one ASGI application between clients and hosts (floor 5)."""

from rivet_ray.gateway.app import create_app
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.settings import GatewaySettings

__all__ = ["Backend", "GatewaySettings", "create_app"]
