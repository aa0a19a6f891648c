"""Callers: handles, connections and what carries them (floor 5)."""

from rivet_ray.client.client import Client
from rivet_ray.client.connection import ActorConnection
from rivet_ray.client.handle import ActorHandle

__all__ = ["ActorConnection", "ActorHandle", "Client"]
