"""An actor class, compiled: every fault found at once, every codec built once."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast, get_args, get_origin

import msgspec
import typing_extensions

from rivet_ray.definition.actions import Action
from rivet_ray.definition.arguments import Arguments, state_fault, type_fault
from rivet_ray.definition.disuse import destroy_after_of
from rivet_ray.definition.events import Event
from rivet_ray.definition.fields import fingerprint_of
from rivet_ray.definition.names import action_name_fault, name_fault
from rivet_ray.definition.payloads import Payload
from rivet_ray.definition.remote import LIFECYCLE
from rivet_ray.definition.state import StateCodec
from rivet_ray.definition.user_code import UserCodeFailed, call
from rivet_ray.errors import DefinitionError, InvalidArgument, Outcome, RivetError
from rivet_ray.protocol import values

HOOKS = (
    "on_auth",
    "caller_identity",
    "create_state",
    "migrate",
    "on_create",
    "on_start",
    "on_stop",
    "on_state_change",
    "on_before_connect",
    "create_conn_state",
    "on_connect",
    "on_disconnect",
    "on_before_action_response",
    "on_fetch",
    "on_websocket",
)
CONNECTION_HOOKS = frozenset(
    {"on_before_connect", "create_conn_state", "on_connect", "on_disconnect"}
)
ON_THE_CLASS = frozenset({"on_auth", "caller_identity", "migrate"})
"""Hooks that run where there is no actor."""
PLAIN = {
    "caller_identity": "; ask others in on_auth",
    "migrate": ": it changes what it is given",
}
"""Hooks that cannot be `async`, and what to do instead."""
SETTINGS = (
    "public",
    "durability",
    "save_interval",
    "sleep_after",
    "anonymous_keys",
    "state_version",
    "destroy_after",
)
"""Class attributes that say how the runtime treats the actors of a class."""
HIGHEST_VERSION = 2**31
SAVED = ("State", "ConnState", "Input")
PARAMETERS = ("State", "ConnState", "Params", "Input", "Auth")


@dataclass(frozen=True, slots=True)
class ActionDefinition:
    """One action, ready to be called from outside."""

    action: Action[Any, ..., Any, Any]
    name: str
    """On the wire."""
    function: Callable[..., Any]
    """The method itself; takes the actor first."""
    timeout: float | None
    """Seconds; None for the host's."""
    private: bool
    exclusive: bool
    readonly: bool
    arguments: Arguments
    returns: Any
    """The annotated type of the result; Any without annotation."""
    returns_nothing: bool
    """Annotated `-> None`: the caller gets no output at all, not even null."""
    is_async: bool


@dataclass(slots=True)
class ActorDefinition:
    """What the runtime, the gateway and the clients know about an actor class."""

    actor: type[Any]
    public: bool
    relaxed: bool
    """Replies do not wait for their save."""
    save_interval: float
    """Seconds between saves of a relaxed actor."""
    sleep_after: float | None
    """Seconds of idleness before the actor leaves memory; None for the host's."""
    anonymous_keys: bool
    """Callers without an identity may use idempotency keys."""
    state_version: int
    """Code with a lower one must not read what this class saves."""
    destroy_after: float | None
    """Seconds without any use after which the actor is destroyed; None for never."""
    hooks: frozenset[str]
    """The names of the hooks that the class overrides."""
    actions: dict[str, ActionDefinition] = field(default_factory=dict[str, ActionDefinition])
    """By wire name."""
    attributes: dict[str, ActionDefinition] = field(default_factory=dict[str, ActionDefinition])
    """By Python name."""
    events: dict[str, Event[Any]] = field(default_factory=dict[str, Event[Any]])
    payloads: dict[str, Payload] = field(default_factory=dict[str, Payload])
    durable_events: frozenset[str] = frozenset()
    """The names of those that are saved."""
    """By wire name."""
    state: StateCodec = field(default_factory=lambda: StateCodec(None))
    conn_state: StateCodec = field(default_factory=lambda: StateCodec(None))
    declared: dict[type, dict[Any, Any]] = field(default_factory=dict[type, dict[Any, Any]])
    """For each base in brackets, what its type parameters stand for."""
    fingerprint: str = ""
    """Names the shape of the saved types; code with other ones has another."""
    types: dict[str, Any] = field(default_factory=dict[str, Any])
    """The type arguments of `Actor[...]`, by the names in `PARAMETERS`."""
    decoders: dict[str, msgspec.msgpack.Decoder[Any]] = field(
        default_factory=dict[str, msgspec.msgpack.Decoder[Any]]
    )

    @property
    def hooks_on_connections(self) -> bool:
        return bool(self.hooks & CONNECTION_HOOKS)

    def encode_event(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """The arguments of an event, declared or not. Raises TypeError, naming the path."""
        payload = self.payloads.get(name)
        return (payload or Payload(name)).encode(arguments)

    def default_state(self) -> Any:
        return self.state.default()

    def default_conn_state(self) -> Any:
        return self.conn_state.default()

    def decode(
        self, parameter: str, data: bytes | None, error: type[RivetError] | None = None
    ) -> Any:
        """A value from outside as the type that the actor declares for it.

        `parameter` is one of Params, Input and Auth. Without data the value is
        None, which has to fit the type too, except for Auth: inside the server
        there is none. Raises InvalidArgument, or `error` when it is given; and
        UserCodeFailed where code of the type itself fails.
        """
        if data is None and parameter == "Auth":
            return None
        decode = self.decoders[parameter].decode
        try:
            return call(self.actor, decode, values.NULL if data is None else data)
        except msgspec.ValidationError as problem:
            if error is None:
                raise InvalidArgument(parameter.lower(), str(problem)) from problem
            raise error(f"{parameter.lower()}: {problem}") from problem
        except Exception as fault:
            raise UserCodeFailed(
                f"{self.actor.__qualname__}: {parameter} cannot be made of what came",
                outcome=Outcome.NOT_STARTED,
            ) from fault


def compile_actor(
    actor: type[Any], base: type[Any], local_names: Mapping[str, Any]
) -> ActorDefinition:
    """Raises DefinitionError with every fault of the class."""
    compiler = _Compiler(actor, base, local_names)
    return compiler.compile()


class _Compiler:
    def __init__(self, actor: type[Any], base: type[Any], local_names: Mapping[str, Any]) -> None:
        self.actor = actor
        self.base = base
        self.local_names = {**local_names, actor.__name__: actor}
        self.faults: list[str] = []
        self.bound: dict[type, dict[Any, Any]] = {}
        """What the type parameters of each ancestor stand for in this class."""
        self.reserved = frozenset(name for name in dir(base) if not name.startswith("_")) | {
            "state",
            "local",
        }

    def compile(self) -> ActorDefinition:
        definition = ActorDefinition(
            actor=self.actor,
            public=bool(self.actor.public),
            relaxed=self.actor.durability == "relaxed",
            save_interval=self._seconds("save_interval") or 1.0,
            sleep_after=self._seconds("sleep_after"),
            anonymous_keys=self.actor.anonymous_keys is True,
            state_version=self.actor.state_version,
            destroy_after=destroy_after_of(self.actor.destroy_after, self.faults),
            hooks=frozenset(hook for hook in HOOKS if self._overrides(hook)),
        )
        if self.actor.durability not in ("strict", "relaxed"):
            self.faults.append('durability must be "strict" or "relaxed"')
        if not isinstance(self.actor.anonymous_keys, bool):
            self.faults.append("anonymous_keys must be True or False")
        version: Any = self.actor.state_version
        if type(version) is not int or not 1 <= version < HIGHEST_VERSION:
            self.faults.append("state_version must be a whole number from 1")
        if self._overrides("__init__"):
            self.faults.append("__init__ cannot be defined; set attributes in on_start")
        self._types(definition)
        for name, value in self._members().items():
            if isinstance(value, Action):
                self._action(definition, name, cast("Action[Any, ..., Any, Any]", value))
            elif isinstance(value, Event):
                self._event(definition, name, cast("Event[Any]", value))
            elif name in HOOKS:
                self._hook(name, value)
            elif name in self.reserved and name not in SETTINGS:
                self.faults.append(f"{name!r} is a name of Actor itself")
        if self.faults:
            raise DefinitionError(f"Actor {self.actor.__qualname__}", self.faults)
        return definition

    def _seconds(self, setting: str) -> float | None:
        value: Any = getattr(self.actor, setting)
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
            self.faults.append(f"{setting} must be a number of seconds above 0, or a timedelta")
            return None
        return seconds

    def _overrides(self, name: str) -> bool:
        mine = inspect.getattr_static(self.actor, name)
        return mine is not inspect.getattr_static(self.base, name)

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for ancestor in reversed(self.actor.__mro__):
            if ancestor not in self.base.__mro__:
                members.update(vars(ancestor))
        return {
            name: value
            for name, value in members.items()
            if not (name.startswith("__") and name.endswith("__"))
            or isinstance(value, (Action, Event))
        }

    def _hook(self, name: str, value: Any) -> None:
        if name in ON_THE_CLASS and not isinstance(value, (classmethod, staticmethod)):
            self.faults.append(f"{name} must be a classmethod: it runs before there is an actor")
        elif not callable(getattr(self.actor, name)):
            self.faults.append(f"{name!r} is a hook and must be a method")
        elif name in PLAIN and inspect.iscoroutinefunction(getattr(self.actor, name)):
            self.faults.append(f"{name} must be a plain method{PLAIN[name]}")

    # --- Actions ---------------------------------------------------------

    def _action(
        self, definition: ActorDefinition, attribute: str, action: Action[Any, ..., Any, Any]
    ) -> None:
        where = f"action {attribute!r}"
        if attribute in self.reserved:
            self.faults.append(f"{where}: the name is reserved by Actor")
        elif attribute.startswith("_"):
            self.faults.append(f"{where}: a private name cannot be an action")
        elif attribute != action.attribute:
            self.faults.append(f"{where}: it is the action {action.attribute!r} already")
        if action.name != attribute and (not action.name or action.name.startswith("_")):
            self.faults.append(f"{where}: {action.name!r} is no name that callers may use")
        elif fault := action_name_fault(action.name):
            self.faults.append(f"{where}: {fault}")
        if action.name in definition.actions:
            self.faults.append(f"{where}: two actions are called {action.name!r}")
        if action.timeout is not None and action.timeout <= 0:
            self.faults.append(f"{where}: a timeout must be above 0 seconds")
        if action.exclusive and action.readonly:
            self.faults.append(f"{where}: exclusive and readonly exclude each other")
        if inspect.isasyncgenfunction(action.function) or inspect.isgeneratorfunction(
            action.function
        ):
            self.faults.append(f"{where}: an action returns one value; use events for streams")
        hints = self._hints(action, where)
        if hints is None:
            return
        returns = hints.get("return", Any)
        if returns in (typing.NoReturn, typing.Never):
            returns = type(None)
        faults: list[str] = []
        if fault := type_fault(returns):
            faults.append(f"its result: {fault}")
        try:
            arguments = Arguments(action.function, hints)
        except ValueError as error:
            faults.extend(str(error).split("\n"))
            arguments = None
        self.faults.extend(f"{where}: {fault}" for fault in faults)
        if arguments is None or faults:
            return
        found = ActionDefinition(
            action=action,
            name=action.name,
            function=action.function,
            timeout=action.timeout,
            private=action.private,
            exclusive=action.exclusive,
            readonly=action.readonly,
            arguments=arguments,
            returns=returns,
            returns_nothing=returns is type(None),
            is_async=inspect.iscoroutinefunction(action.function),
        )
        definition.actions[action.name] = found
        definition.attributes[attribute] = found

    def _hints(self, action: Action[Any, ..., Any, Any], where: str) -> dict[str, Any] | None:
        if action.hints is None:
            try:
                action.hints = typing_extensions.get_type_hints(
                    action.function, localns=self.local_names, include_extras=True
                )
            except (AttributeError, NameError, TypeError, SyntaxError) as error:
                self.faults.append(f"{where}: its annotations cannot be read: {error}")
                return None
        bound = self.bound.get(action.owner, {}) if action.owner else {}
        return {name: _filled(kind, bound) for name, kind in action.hints.items()}

    def _event(self, definition: ActorDefinition, attribute: str, event: Event[Any]) -> None:
        where = f"event {attribute!r}"
        if attribute in self.reserved:
            self.faults.append(f"{where}: the name is reserved by Actor")
        elif attribute != event.attribute:
            self.faults.append(f"{where}: it is the event {event.attribute!r} already")
        if fault := name_fault(event.name):
            self.faults.append(f"{where}: {fault}")
        if event.name in definition.events:
            self.faults.append(f"{where}: two events are called {event.name!r}")
        if event.name in LIFECYCLE:
            self.faults.append(f"{where}: {event.name!r} is a life-cycle event of connections")
        for kind in event.payload:
            if fault := type_fault(kind if not isinstance(kind, typing.ForwardRef) else Any):
                self.faults.append(f"{where}: {fault}")
        definition.events[event.name] = event
        if not self.faults:
            definition.payloads[event.name] = Payload(event.name, event.payload)
        if event.durable:
            definition.durable_events |= {event.name}

    # --- Type arguments --------------------------------------------------

    def _types(self, definition: ActorDefinition) -> None:
        definition.declared = self._declared()
        self._bind(definition)
        found = {str(key.__name__): kind for key, kind in self.bound.get(self.base, {}).items()}
        defaults = (type(None), type(None), Any, Any, Any)
        for name, default in zip(PARAMETERS, defaults, strict=True):
            resolved = found.get(name, default)
            if isinstance(resolved, TypeVar):
                resolved = Any
            fault_of = state_fault if name in SAVED else type_fault
            if fault := fault_of(resolved):
                self.faults.append(f"{name}: {fault}")
                continue
            definition.types[name] = resolved
            definition.decoders[name] = values.decoder(resolved)
        if "State" in definition.types:
            definition.state = self._state(definition, "State", "create_state")
            definition.fingerprint = fingerprint_of(definition.types["State"])
        if "ConnState" in definition.types:
            definition.conn_state = self._state(definition, "ConnState", "create_conn_state")

    def _state(self, definition: ActorDefinition, name: str, hook: str) -> StateCodec:
        codec = StateCodec(definition.types[name])
        if hook not in definition.hooks:
            try:
                codec.split(codec.default())
                codec.join(codec.split(codec.default()))
            except (TypeError, ValueError, RivetError) as error:
                self.faults.append(
                    f"{name}: {_type_name(codec.kind)}() is no complete state ({error}); "
                    f"give its fields defaults or define {hook}"
                )
        return codec

    def _resolve(self, name: str, kind: Any) -> Any:
        if isinstance(kind, (str, typing.ForwardRef)):
            text = kind if isinstance(kind, str) else kind.__forward_arg__
            module = inspect.getmodule(self.actor)
            names = {**(vars(module) if module else {}), **self.local_names}
            try:
                return typing_extensions.get_type_hints(
                    type("_", (), {"__annotations__": {"it": text}}), names, names
                )["it"]
            except (AttributeError, NameError, TypeError, SyntaxError) as error:
                self.faults.append(f"{name}: {error}")
                return Any
        return type(None) if kind is None else kind

    def _declared(self) -> dict[type, dict[Any, Any]]:
        """What the class itself writes in brackets behind its bases."""
        declared: dict[type, dict[Any, Any]] = {}
        for alias in vars(self.actor).get("__orig_bases__", ()):
            origin = get_origin(alias)
            if isinstance(origin, type) and origin is not Generic:
                parameters = getattr(origin, "__parameters__", ())
                declared[origin] = {
                    parameter: self._resolve(parameter.__name__, kind)
                    for parameter, kind in zip(parameters, get_args(alias), strict=False)
                }
        return declared

    def _bind(self, definition: ActorDefinition) -> None:
        """Follow the type parameters through the bases, the nearest first."""
        for ancestor in self.actor.__mro__:
            known = definition if ancestor is self.actor else vars(ancestor).get("__definition__")
            bound = self.bound.get(ancestor, {})
            for origin, kinds in known.declared.items() if known is not None else ():
                if origin not in self.bound:
                    self.bound[origin] = {
                        parameter: _filled(kind, bound) for parameter, kind in kinds.items()
                    }


def _filled(kind: Any, bound: Mapping[Any, Any]) -> Any:
    """A type with what its type parameters stand for in their places."""
    if isinstance(kind, TypeVar):
        return bound.get(kind, kind)
    parameters = getattr(kind, "__parameters__", ())
    if isinstance(kind, type) or not any(parameter in bound for parameter in parameters):
        return kind
    return kind[tuple(bound.get(parameter, parameter) for parameter in parameters)]


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
