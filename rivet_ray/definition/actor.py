"""`Actor`: the base class of every actor type."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Protocol, overload

from typing_extensions import TypeVar, TypeVarTuple

from rivet_ray.definition.conn import Conn, Request
from rivet_ray.definition.events import Event
from rivet_ray.errors import InternalError

if TYPE_CHECKING:
    from typing import Self

    from rivet_ray.definition.compiled import ActorDefinition
    from rivet_ray.definition.remote import Connection

State = TypeVar("State", default=None)
ConnState = TypeVar("ConnState", default=None)
Params = TypeVar("Params", default=Any)
Input = TypeVar("Input", default=Any)
Auth = TypeVar("Auth", default=Any)
Payload = TypeVarTuple("Payload")


class ActorContext(Protocol):
    """What the runtime gives a living actor; `Actor` passes requests on to it."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def key(self) -> tuple[str, ...]: ...
    @property
    def region(self) -> str: ...
    @property
    def input(self) -> Any: ...
    @property
    def conns(self) -> list[Any]: ...
    def current_conn(self) -> Any: ...
    def broadcast(self, event: str, arguments: tuple[Any, ...]) -> None: ...
    async def save(self) -> None: ...


class Actor(Generic[State, ConnState, Params, Input, Auth]):
    """A small stateful object with a key.

        class Counter(Actor[CounterState]):
            new_count = Event[int]()

            @action
            def increment(self, amount: int) -> int:
                self.state.count += amount
                self.broadcast(Counter.new_count, self.state.count)
                return self.state.count

    `State` and `ConnState` are dataclasses, msgspec Structs, TypedDicts, pydantic
    models or plain JSON values. Without `create_state` the state of a new actor
    is `State()`, and likewise for connections. Attributes other than `state`
    live as long as the actor stays in memory; set them in `on_start`.

    The methods below are hooks: override the ones you need, as plain or as
    `async` methods. No caller can reach them.
    """

    public: ClassVar[bool] = False
    """Whether callers from outside may use an actor type without `on_auth`."""

    state: State
    """The actor's memory: saved at the end of each action that changes it."""

    __definition__: ClassVar[ActorDefinition]
    __context: ActorContext

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        from rivet_ray.definition.compiled import compile_actor

        cls.__definition__ = compile_actor(cls, Actor, sys._getframe(1).f_locals)

    # --- What this actor is ---------------------------------------------

    @property
    def id(self) -> str:
        """The actor's id: 16 hex digits, and a generation after a destroy."""
        return self.__context.id

    @property
    def name(self) -> str:
        """The name of the actor's type in its registry."""
        return self.__context.name

    @property
    def key(self) -> tuple[str, ...]:
        """The actor's key."""
        return self.__context.key

    @property
    def tags(self) -> tuple[str, ...]:
        """The actor's key, under the name that older documentation uses."""
        return self.__context.key

    @property
    def region(self) -> str:
        """Where the actor was asked to live, or `unknown`."""
        return self.__context.region

    @property
    def input(self) -> Input:
        """What the creator passed as `input`, or None."""
        value: Input = self.__context.input
        return value

    # --- Its connections -------------------------------------------------

    @property
    def conn(self) -> Conn[ConnState, Params, Auth]:
        """The connection that caused the current turn. Raises NoConnection."""
        conn: Conn[ConnState, Params, Auth] = self.__context.current_conn()
        return conn

    @property
    def conns(self) -> list[Conn[ConnState, Params, Auth]]:
        """Every connection of the actor, oldest first, as a new list."""
        return self.__context.conns

    @property
    def auth(self) -> Auth:
        """`self.conn.auth`."""
        return self.conn.auth

    @overload
    def broadcast(self, event: Event[*Payload], /, *args: *Payload) -> None: ...
    @overload
    def broadcast(self, event: str, /, *args: Any) -> None: ...
    def broadcast(self, event: Any, /, *args: Any) -> None:  # type: ignore[misc]
        """Send an event to every connection that subscribed to it.

        The arguments are encoded now and leave, in order, once the state that
        they may reveal is saved.
        """
        name = event.name if isinstance(event, Event) else event
        self.__context.broadcast(name, args)

    async def save(self) -> None:
        """Save the state now and wait until it is durable.

        Actions save at their end by themselves; this is for an action that
        must not go on before something is on disk.
        """
        await self.__context.save()

    # --- Hooks -----------------------------------------------------------

    @classmethod
    def on_auth(
        cls, request: Request, params: Params, intents: frozenset[str]
    ) -> Awaitable[Auth] | Auth:
        """Decide in the gateway whether a caller from outside may go on.

        Runs before the actor is looked up or created. `intents` is a subset of
        get, create, connect, action and message. What it returns is the
        connection's `auth`; raise Unauthorized or Forbidden to refuse.
        """
        raise InternalError("on_auth is not defined")

    def create_state(self, input: Input) -> Awaitable[State] | State:
        """The state of a new actor."""
        state: State = self.__definition__.default_state()
        return state

    def on_create(self, input: Input) -> Awaitable[None] | None:
        """Runs once in the life of the actor, after `create_state`."""
        return None

    def on_start(self) -> Awaitable[None] | None:
        """Runs each time that the actor comes into memory, before any call."""
        return None

    def on_before_connect(self, request: Request | None, params: Params) -> Awaitable[None] | None:
        """Refuse a connection by raising."""
        return None

    def create_conn_state(
        self, request: Request | None, params: Params
    ) -> Awaitable[ConnState] | ConnState:
        """The state of a new connection."""
        state: ConnState = self.__definition__.default_conn_state()
        return state

    def on_connect(self, conn: Conn[ConnState, Params, Auth]) -> Awaitable[None] | None:
        """Runs before any message of the connection; raising closes it."""
        return None

    def on_disconnect(self, conn: Conn[ConnState, Params, Auth]) -> Awaitable[None] | None:
        """Runs once after the connection ended, however it ended."""
        return None

    def on_before_action_response(
        self, name: str, args: tuple[Any, ...], output: Any
    ) -> Awaitable[Any] | Any:
        """May replace what an action returns. An error in it is logged and ignored."""
        return output

    # --- On a handle -----------------------------------------------------
    #
    # Python has no mapped types, so a handle is typed as the actor itself.
    # These exist on handles only.

    def connect(self, *, params: Any = None) -> Connection[Self]:
        """On a handle: open a connection, `async with handle.connect() as conn`."""
        self.__only_on_a_handle("connect")

    async def resolve(self) -> str:
        """On a handle: the actor's id, after creating it where that is asked for."""
        self.__only_on_a_handle("resolve")

    def __only_on_a_handle(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__}.{name} exists on handles (client.….get_or_create(…)), "
            "not inside the actor."
        )


def bind(actor: Actor[Any, Any, Any, Any, Any], context: ActorContext) -> None:
    """Give a new actor object its context; for runtimes and unit tests."""
    actor._Actor__context = context  # type: ignore[attr-defined]  # pyright: ignore
