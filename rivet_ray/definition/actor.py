"""`Actor`: the base class of every actor type."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    TypeAlias,
    overload,
)

from typing_extensions import TypeVar, TypeVarTuple

from rivet_ray.definition.conn import Conn, Request
from rivet_ray.definition.context import ActorContext, Log
from rivet_ray.definition.events import Event
from rivet_ray.definition.identity import identity_in
from rivet_ray.errors import InternalError

if TYPE_CHECKING:
    from typing import Self

    import httpx
    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket
    from websockets.asyncio.client import ClientConnection

    from rivet_ray.definition.compiled import ActorDefinition
    from rivet_ray.definition.remote import Connection, ParamsLike
    from rivet_ray.definition.schedule import Schedule

    Fetched: TypeAlias = ASGIApp | str | bytes | dict[str, Any] | list[Any]
    """What `on_fetch` returns."""

State = TypeVar("State", default=None)
ConnState = TypeVar("ConnState", default=None)
Params = TypeVar("Params", default=Any)
Input = TypeVar("Input", default=Any)
Auth = TypeVar("Auth", default=Any)
Payload = TypeVarTuple("Payload")
RegistryT = TypeVar("RegistryT")


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

    durability: ClassVar[Literal["strict", "relaxed"]] = "strict"
    """`strict`: an answer leaves when what it reveals is saved. `relaxed`: it
    leaves at once and a crash may lose up to `save_interval` of changes; only
    schedules, destroy and calls with an idempotency key still wait."""

    save_interval: ClassVar[float | timedelta] = 1.0
    """Seconds within which a `relaxed` actor is saved."""

    sleep_after: ClassVar[float | timedelta | None] = None
    """Seconds of idleness (no connection, nothing running) after which the actor
    leaves memory; the host's setting (30 s) by default, `math.inf` for never."""

    anonymous_keys: ClassVar[bool] = False
    """Whether callers without an identity may use idempotency keys, all in one scope:
    whoever chooses the key of another gets that one's answer. See `caller_identity`."""

    state_version: ClassVar[int] = 1
    """Raise it if older code must not read what this code saves. Each save records it; a
    host whose class has a lower one leaves the actor alone. See docs/state.md."""

    destroy_after: ClassVar[timedelta | None] = None
    """Destroy the actor, for good, if nobody has used it for so long. Actions, connections,
    raw requests and scheduled actions that run are uses. See docs/state.md."""

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

    # --- Time and others --------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """Call this actor's own actions later, over restarts and crashes."""
        return self.__context.schedule

    def client(self, registry: type[RegistryT]) -> RegistryT:
        """A client of the actors of a registry: `self.client(App).stock.get("k")`.

        The same calls, connections and errors as from outside, without network
        and without `on_auth`. A call leaves when what this actor has changed
        before it is saved.
        """
        client: RegistryT = self.__context.client(registry)
        return client

    @property
    def log(self) -> Log:
        """A logger that names this actor and the current connection in every line.

        `self.log.info("increment", count=456)` prints `level=INFO msg=increment
        count=456 …`, or JSON where the environment's RIVET_LOG_FORMAT is `json`.
        """
        return self.__context.log

    @property
    def driver(self) -> object:
        """The store's driver, for what only it can do."""
        return self.__context.driver

    def sleep(self) -> None:
        """Leave memory as soon as nothing runs and nobody is connected."""
        self.__context.sleep()

    def destroy(self) -> None:
        """End this actor for good: its state, its schedule, its connections.

        Takes effect when the current stretch of code ends; other actions that
        run are cancelled. The answer of the calling action leaves when the
        actor is gone from the store. `get_or_create` on its key makes a new one.
        """
        self.__context.destroy()

    def keep_awake(self) -> AbstractContextManager[None]:
        """`with self.keep_awake():` the actor does not fall asleep by itself."""
        return self.__context.keep_awake()

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Run something in the background that must end before the actor leaves memory.

        An error in it is logged.
        """
        self.__context.wait_until(work)

    # --- Hooks -----------------------------------------------------------

    @classmethod
    def on_auth(
        cls, request: Request, params: Params, intents: frozenset[str]
    ) -> Awaitable[Auth] | Auth:
        """Decide in the gateway whether a caller from outside may go on.

        Runs before the actor is looked up or created. `intents` is a subset of
        get, create, connect, action and message. What it returns is the
        connection's `auth`; raise Unauthorized or Forbidden to refuse. False refuses
        too, as Forbidden; what is not the actor's `Auth` is an internal error.
        """
        raise InternalError("on_auth is not defined")

    @classmethod
    def caller_identity(cls, auth: Auth) -> str | None:
        """Who a caller is, the same for each of their tokens and never another's; or None.

        It is the scope of idempotency keys, and a connection comes back to its own
        caller only. By default: issuer and subject of claims (`iss`, `sub`), or the id
        of an API key (`key_id`), of what `on_auth` returned. Runs in the gateway, for
        connections and calls with a key; a plain method.
        """
        return identity_in(auth)

    def create_state(self, input: Input) -> Awaitable[State] | State:
        """The state of a new actor."""
        state: State = self.__definition__.default_state()
        return state

    @classmethod
    def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
        """Bring the fields that a class of a lower `state_version` saved into today's form.

        `raw` holds every saved field as a plain value, including fields that the class no
        longer has; change it or return another dict. Runs when the actor is loaded. If it
        raises, or the state type refuses what it returns, the start fails and the saved data
        stays as it is.
        """
        return raw

    def on_create(self, input: Input) -> Awaitable[None] | None:
        """Runs once in the life of the actor, after `create_state`."""
        return None

    def on_start(self) -> Awaitable[None] | None:
        """Runs each time that the actor comes into memory, before any call."""
        return None

    def on_stop(self) -> Awaitable[None] | None:
        """Runs before the actor leaves memory, unless its host is killed.

        What it changes is saved, except before a destroy.
        """
        return None

    def on_state_change(self, state: State) -> Awaitable[None] | None:
        """Runs before a changed state is saved, once for all changes since the last save.

        It may broadcast. What a plain method changes itself is saved along, and
        does not call it again.
        """
        return None

    def on_before_connect(self, request: Request | None, params: Params) -> Awaitable[None] | None:
        """Refuse a connection by raising, or by returning False."""
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

    def on_fetch(self, request: HttpRequest) -> Awaitable[Fetched] | Fetched:
        """Answer an HTTP request of any method: `/registry/actors/raw/http/{path}`.

        `request` is Starlette's; its URL has the path behind `/raw/http`, and
        `request.state` has `auth`, `params` and `actor`. Return text, bytes, JSON (a
        dict or list), a Starlette `Response` of any kind, or an ASGI application that
        is to answer in this one's place, such as a FastAPI app with `async` routes; it
        is mounted at `/registry/actors/raw/http`.

        What leaves (head, each piece of a stream) waits for its save. There is no
        connection and no hook of one runs. The answer has to begin within the
        host's `action_timeout`; a client that leaves cancels it.
        """
        raise InternalError("on_fetch is not defined")

    def on_websocket(self, websocket: WebSocket) -> Awaitable[ASGIApp | None] | ASGIApp | None:
        """Serve a WebSocket of any protocol: `/registry/actors/raw/websocket/{path}`.

        `websocket` is Starlette's, and not accepted yet; its subprotocols are the
        user's own, its `state` has `auth`, `params` and `actor`. What is sent waits
        for its save. When the method returns the socket is closed with 1000, unless it
        returns an ASGI application that is to serve it. After the client has left, it
        may run on for the host's `hook_timeout`.
        """
        raise InternalError("on_websocket is not defined")

    # --- On a handle -----------------------------------------------------
    #
    # Python has no mapped types, so a handle is typed as the actor itself.
    # These exist on handles only.

    def connect(self, *, params: ParamsLike = None) -> Connection[Self]:
        """On a handle: open a connection, `async with handle.connect() as conn`."""
        self.__only_on_a_handle("connect")

    def with_options(
        self, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> Self:
        """On a handle: the same actor, with options for each call.

        Calls of one caller with the same `idempotency_key` take effect at most once
        and all get the first one's answer, over crashes too. `timeout` is how many
        seconds a call waits.
        """
        self.__only_on_a_handle("with_options")

    async def resolve(self) -> str:
        """On a handle: the actor's id, after creating it where that is asked for."""
        self.__only_on_a_handle("resolve")

    async def fetch(
        self,
        path: str = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | AsyncIterable[bytes] | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """On a handle: an HTTP request to the actor's `on_fetch`.

        `path` may have a query. Answers of any status are returned; those of the
        server itself carry `X-RivetKit-Outcome`. With `stream` the body has not been
        read: close the response with `aclose`.
        """
        self.__only_on_a_handle("fetch")

    def websocket(
        self, path: str = "", *, protocols: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """On a handle: a WebSocket to the actor's `on_websocket`.

        `async with handle.websocket("live") as socket:`; see `websockets`.
        """
        self.__only_on_a_handle("websocket")

    def __only_on_a_handle(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__}.{name} exists on handles (client.….get_or_create(…)), "
            "not inside the actor."
        )


def bind(actor: Actor[Any, Any, Any, Any, Any], context: ActorContext) -> None:
    """Give a new actor object its context; for runtimes and unit tests."""
    actor._Actor__context = context  # type: ignore[attr-defined]  # pyright: ignore
