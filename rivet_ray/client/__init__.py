"""Callers: handles, connections and what carries them (floor 5)."""

from rivet_ray.client.client import Client
from rivet_ray.client.connection import ActorConnection
from rivet_ray.client.handle import ActorHandle
from rivet_ray.client.settings import ClientSettings
from rivet_ray.client.sync_handle import SyncConnection, SyncEventStream, SyncHandle
from rivet_ray.client.sync_raw import SyncResponse, SyncWebSocket
from rivet_ray.client.synchronous import SyncClient

__all__ = [
    "ActorConnection",
    "ActorHandle",
    "Client",
    "ClientSettings",
    "SyncClient",
    "SyncConnection",
    "SyncEventStream",
    "SyncHandle",
    "SyncResponse",
    "SyncWebSocket",
]
