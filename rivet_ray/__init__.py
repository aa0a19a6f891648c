"""Stateful actors in Python: a class with a key, reached over the network.

from dataclasses import dataclass
from rivet_ray import Actor, Registry, action, use

@dataclass
class CounterState:
    count: int = 0

class Counter(Actor[CounterState]):
    @action
    def increment(self, amount: int) -> int:
        self.state.count += amount
        return self.state.count

class App(Registry):
    counter = use(Counter)
"""

from rivet_ray.definition import Action, Actor, Conn, Connection, Event, Request, action, use
from rivet_ray.errors import (
    ActionNotFound,
    ActionTimedOut,
    ActorAlreadyExists,
    ActorNotFound,
    ConnectionClosed,
    DefinitionError,
    Forbidden,
    InternalError,
    NoConnection,
    Outcome,
    PublicError,
    RivetError,
    Unauthorized,
    UserError,
)
from rivet_ray.registry import Client, Registry, Server, setup

__all__ = [
    "Action",
    "ActionNotFound",
    "ActionTimedOut",
    "Actor",
    "ActorAlreadyExists",
    "ActorNotFound",
    "Client",
    "Conn",
    "Connection",
    "ConnectionClosed",
    "DefinitionError",
    "Event",
    "Forbidden",
    "InternalError",
    "NoConnection",
    "Outcome",
    "PublicError",
    "Registry",
    "Request",
    "RivetError",
    "Server",
    "Unauthorized",
    "UserError",
    "action",
    "setup",
    "use",
]
