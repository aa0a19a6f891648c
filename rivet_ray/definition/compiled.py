"""An actor class, compiled: every fault found at once, every codec built once."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec
import typing_extensions

from rivet_ray.definition.actions import Action
from rivet_ray.definition.arguments import Arguments, type_fault
from rivet_ray.definition.events import Event
from rivet_ray.definition.state import StateCodec
from rivet_ray.errors import DefinitionError, InvalidArgument, RivetError
from rivet_ray.protocol import values

HOOKS = (
    "on_auth",
    "create_state",
    "on_create",
    "on_start",
    "on_before_connect",
    "create_conn_state",
    "on_connect",
    "on_disconnect",
    "on_before_action_response",
)
CONNECTION_HOOKS = frozenset(
    {"on_before_connect", "create_conn_state", "on_connect", "on_disconnect"}
)
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
    hooks: frozenset[str]
    """The names of the hooks that the class overrides."""
    actions: dict[str, ActionDefinition] = field(default_factory=dict[str, ActionDefinition])
    """By wire name."""
    attributes: dict[str, ActionDefinition] = field(default_factory=dict[str, ActionDefinition])
    """By Python name."""
    events: dict[str, Event[Any]] = field(default_factory=dict[str, Event[Any]])
    """By wire name."""
    state: StateCodec = field(default_factory=lambda: StateCodec(None))
    conn_state: StateCodec = field(default_factory=lambda: StateCodec(None))
    types: dict[str, Any] = field(default_factory=dict[str, Any])
    """The type arguments of `Actor[...]`, by the names in `PARAMETERS`."""
    decoders: dict[str, msgspec.msgpack.Decoder[Any]] = field(
        default_factory=dict[str, msgspec.msgpack.Decoder[Any]]
    )

    @property
    def hooks_on_connections(self) -> bool:
        return bool(self.hooks & CONNECTION_HOOKS)

    def default_state(self) -> Any:
        return self.state.default()

    def default_conn_state(self) -> Any:
        return self.conn_state.default()

    def decode(
        self, parameter: str, data: bytes | None, error: type[RivetError] | None = None
    ) -> Any:
        """A value from outside as the type that the actor declares for it.

        `parameter` is one of Params, Input and Auth; without data the value is
        None. Raises InvalidArgument, or `error` when it is given.
        """
        if data is None:
            return None
        try:
            return self.decoders[parameter].decode(data)
        except msgspec.ValidationError as problem:
            if error is None:
                raise InvalidArgument(parameter.lower(), str(problem)) from problem
            raise error(f"{parameter.lower()}: {problem}") from problem


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
        self.reserved = frozenset(name for name in dir(base) if not name.startswith("_")) | {
            "state",
            "local",
        }

    def compile(self) -> ActorDefinition:
        definition = ActorDefinition(
            actor=self.actor,
            public=bool(self.actor.public),
            hooks=frozenset(hook for hook in HOOKS if self._overrides(hook)),
        )
        if self._overrides("__init__"):
            self.faults.append("__init__ cannot be defined; set attributes in on_start")
        self._types(definition)
        for name, value in self._members().items():
            if isinstance(value, Action):
                self._action(definition, name, cast("Action[Any, ..., Any, Any]", value))
            elif isinstance(value, Event):
                self._event(definition, name, cast("Event[Any]", value))
            elif name in self.reserved and name not in (*HOOKS, "public"):
                self.faults.append(f"{name!r} is a name of Actor itself")
        if self.faults:
            raise DefinitionError(f"Actor {self.actor.__qualname__}", self.faults)
        return definition

    def _overrides(self, name: str) -> bool:
        mine = inspect.getattr_static(self.actor, name)
        return mine is not inspect.getattr_static(self.base, name)

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for ancestor in reversed(self.actor.__mro__):
            if issubclass(ancestor, self.base) and ancestor is not self.base:
                members.update(vars(ancestor))
        return {
            name: value
            for name, value in members.items()
            if not (name.startswith("__") and name.endswith("__"))
            or isinstance(value, (Action, Event))
        }

    # --- Actions ---------------------------------------------------------

    def _action(
        self, definition: ActorDefinition, attribute: str, action: Action[Any, ..., Any, Any]
    ) -> None:
        where = f"action {attribute!r}"
        if attribute in self.reserved:
            self.faults.append(f"{where}: the name is reserved by Actor")
        elif attribute.startswith("_"):
            self.faults.append(f"{where}: a private name cannot be an action")
        if not action.name or action.name.startswith("_"):
            self.faults.append(f"{where}: {action.name!r} is no name that callers may use")
        if action.name in definition.actions:
            self.faults.append(f"{where}: two actions are called {action.name!r}")
        if action.timeout is not None and action.timeout <= 0:
            self.faults.append(f"{where}: a timeout must be above 0 seconds")
        if inspect.isasyncgenfunction(action.function) or inspect.isgeneratorfunction(
            action.function
        ):
            self.faults.append(f"{where}: an action returns one value; use events for streams")
        hints = self._hints(action, where)
        if hints is None:
            return
        returns = hints.get("return", Any)
        if fault := type_fault(returns):
            self.faults.append(f"{where}: its result: {fault}")
            return
        try:
            arguments = Arguments(action.function, hints)
        except ValueError as error:
            self.faults.extend(f"{where}: {fault}" for fault in str(error).split("\n"))
            return
        found = ActionDefinition(
            action=action,
            name=action.name,
            function=action.function,
            timeout=action.timeout,
            arguments=arguments,
            returns=returns,
            returns_nothing=returns is type(None),
            is_async=inspect.iscoroutinefunction(action.function),
        )
        definition.actions[action.name] = found
        definition.attributes[attribute] = found

    def _hints(self, action: Action[Any, ..., Any, Any], where: str) -> dict[str, Any] | None:
        try:
            return typing_extensions.get_type_hints(
                action.function, localns=self.local_names, include_extras=True
            )
        except (NameError, TypeError, SyntaxError) as error:
            self.faults.append(f"{where}: its annotations cannot be read: {error}")
            return None

    def _event(self, definition: ActorDefinition, attribute: str, event: Event[Any]) -> None:
        where = f"event {attribute!r}"
        if attribute in self.reserved:
            self.faults.append(f"{where}: the name is reserved by Actor")
        if event.name in definition.events:
            self.faults.append(f"{where}: two events are called {event.name!r}")
        if event.name in ("connected", "disconnected", "error"):
            self.faults.append(f"{where}: {event.name!r} is a life-cycle event of connections")
        for kind in event.payload:
            if fault := type_fault(kind if not isinstance(kind, typing.ForwardRef) else Any):
                self.faults.append(f"{where}: {fault}")
        definition.events[event.name] = event

    # --- Type arguments --------------------------------------------------

    def _types(self, definition: ActorDefinition) -> None:
        defaults = (type(None), type(None), Any, Any, Any)
        arguments = (*self._type_arguments(), *defaults[len(self._type_arguments()) :])
        for name, kind in zip(PARAMETERS, arguments, strict=False):
            resolved = self._resolve(name, kind)
            if isinstance(resolved, TypeVar):
                resolved = Any
            if fault := type_fault(resolved):
                self.faults.append(f"{name}: {fault}")
                continue
            definition.types[name] = resolved
            definition.decoders[name] = values.decoder(resolved)
        if "State" in definition.types:
            definition.state = self._state(definition, "State", "create_state")
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
            except NameError as error:
                self.faults.append(f"{name}: {error}")
                return Any
        return type(None) if kind is None else kind

    def _type_arguments(self) -> tuple[Any, ...]:
        """What the nearest `Actor[...]` among the bases says, TypeVars filled in."""
        bound: dict[Any, Any] = {}
        for ancestor in self.actor.__mro__:
            for declared in vars(ancestor).get("__orig_bases__", ()):
                origin = get_origin(declared)
                if not (isinstance(origin, type) and issubclass(origin, self.base)):
                    continue
                arguments = tuple(bound.get(item, item) for item in get_args(declared))
                if origin is self.base:
                    return arguments
                parameters = getattr(origin, "__parameters__", ())
                bound = dict(zip(parameters, arguments, strict=False))
        return ()


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
