"""How users describe actors: classes, actions, events, registries (floor 3)."""

from rivet_ray.definition.actions import Action, BoundAction, action
from rivet_ray.definition.actor import Actor, bind
from rivet_ray.definition.compiled import ActionDefinition, ActorDefinition
from rivet_ray.definition.conn import Conn, Request
from rivet_ray.definition.context import ActorContext, Log
from rivet_ray.definition.cors import CORS
from rivet_ray.definition.events import Event
from rivet_ray.definition.registry import ActorRegistry, Use, use
from rivet_ray.definition.remote import (
    ActorAccessor,
    Caller,
    Connection,
    EventStream,
    KeyLike,
    Unsubscribe,
)
from rivet_ray.definition.schedule import Schedule, Scheduled
from rivet_ray.definition.state import StateCodec

__all__ = [
    "CORS",
    "Action",
    "ActionDefinition",
    "Actor",
    "ActorAccessor",
    "ActorContext",
    "ActorDefinition",
    "ActorRegistry",
    "BoundAction",
    "Caller",
    "Conn",
    "Connection",
    "Event",
    "EventStream",
    "KeyLike",
    "Log",
    "Request",
    "Schedule",
    "Scheduled",
    "StateCodec",
    "Unsubscribe",
    "Use",
    "action",
    "bind",
    "use",
]
