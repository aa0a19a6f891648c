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

from rivet_ray.definition import (
    CORS,
    Action,
    Actor,
    Conn,
    Connection,
    Event,
    Request,
    Scheduled,
    action,
    use,
)
from rivet_ray.errors import (
    ActionCancelled,
    ActionNotFound,
    ActionTimedOut,
    ActorAlreadyExists,
    ActorNotFound,
    ActorStopped,
    AnswerNotKept,
    AuthUnavailable,
    CallCycle,
    ConnectionClosed,
    DefinitionError,
    Forbidden,
    HostNotAllowed,
    IdempotencyKeyRefused,
    IdempotencyKeyReused,
    InternalError,
    Interrupted,
    NoConnection,
    OriginNotAllowed,
    Outcome,
    Overloaded,
    PublicError,
    RivetError,
    StateTooNew,
    StoreLostData,
    StoreUnavailable,
    TooManyKeys,
    TooManySubscriptions,
    Unauthorized,
    UserError,
)
from rivet_ray.protocol.v0 import ALLOWED_PUBLIC_HEADERS
from rivet_ray.registry import Client, Registry, Server, SyncClient, setup

__all__ = [
    "ALLOWED_PUBLIC_HEADERS",
    "CORS",
    "Action",
    "ActionCancelled",
    "ActionNotFound",
    "ActionTimedOut",
    "Actor",
    "ActorAlreadyExists",
    "ActorNotFound",
    "ActorStopped",
    "AnswerNotKept",
    "AuthUnavailable",
    "CallCycle",
    "Client",
    "Conn",
    "Connection",
    "ConnectionClosed",
    "DefinitionError",
    "Event",
    "Forbidden",
    "HostNotAllowed",
    "IdempotencyKeyRefused",
    "IdempotencyKeyReused",
    "InternalError",
    "Interrupted",
    "NoConnection",
    "OriginNotAllowed",
    "Outcome",
    "Overloaded",
    "PublicError",
    "Registry",
    "Request",
    "RivetError",
    "Scheduled",
    "Server",
    "StateTooNew",
    "StoreLostData",
    "StoreUnavailable",
    "SyncClient",
    "TooManyKeys",
    "TooManySubscriptions",
    "Unauthorized",
    "UserError",
    "action",
    "setup",
    "use",
]
