"""One actor object without any host: for tests of a class alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from typing import Any

from typing_extensions import TypeVar

from rivet_ray.definition import Action, Actor, Event, Scheduled, bind
from rivet_ray.errors import NoConnection

ActorT = TypeVar("ActorT", bound=Actor[Any, Any, Any, Any, Any])


@dataclass
class UnitConn:
    """A connection that remembers what it was sent."""

    state: Any = None
    params: Any = None
    auth: Any = None
    id: str = "unit"
    request: Any = None
    sent: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[Any])
    closed: str | None = None

    def send(self, event: Event[*tuple[Any, ...]] | str, /, *args: Any) -> None:
        self.sent.append((event.name if isinstance(event, Event) else event, args))

    async def disconnect(self, reason: str = "") -> None:
        self.closed = reason


class UnitLog:
    """Keeps what was logged: (level, message, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def critical(self, message: str, /, **fields: Any) -> None:
        self.lines.append(("critical", message, fields))

    def error(self, message: str, /, **fields: Any) -> None:
        self.lines.append(("error", message, fields))

    def warn(self, message: str, /, **fields: Any) -> None:
        self.lines.append(("warn", message, fields))

    warning = warn

    def info(self, message: str, /, **fields: Any) -> None:
        self.lines.append(("info", message, fields))

    def debug(self, message: str, /, **fields: Any) -> None:
        self.lines.append(("debug", message, fields))


class UnitContext:
    """What a unit test's actor reaches; everything it does is written down here."""

    def __init__(self, name: str, key: tuple[str, ...], input: Any, client: Any) -> None:
        self.id = "unit"
        self.name = name
        self.key = key
        self.region = "unknown"
        self.input = input
        self.driver: object = None
        self.log = UnitLog()
        self.conn: UnitConn | None = None
        self.conns: list[Any] = []
        self.broadcasts: list[tuple[str, tuple[Any, ...]]] = []
        self.schedule = UnitSchedule()
        self.saves = 0
        self.asleep = self.destroyed = False
        self.background: list[Awaitable[Any]] = []
        self._client = client

    def current_conn(self) -> Any:
        if self.conn is None:
            raise NoConnection("this unit test gave the actor no connection")
        return self.conn

    def broadcast(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.broadcasts.append((event, arguments))

    async def save(self) -> None:
        self.saves += 1

    def client(self, registry: type[Any]) -> Any:
        if self._client is None:
            raise LookupError("this unit test gave the actor no client; see stub_client")
        return self._client

    def sleep(self) -> None:
        self.asleep = True

    def destroy(self) -> None:
        self.destroyed = True

    @contextmanager
    def keep_awake(self) -> Generator[None]:
        yield

    def wait_until(self, work: Awaitable[Any]) -> None:
        self.background.append(work)


class UnitSchedule:
    """A schedule that runs nothing and lists everything."""

    current: Scheduled | None = None

    def __init__(self) -> None:
        self._entries: dict[str, Scheduled] = {}
        self._made = 0

    def after(self, delay: timedelta | float, action: Any, /, *args: Any, **kwargs: Any) -> str:
        wait = delay if isinstance(delay, timedelta) else timedelta(milliseconds=delay)
        return self.at(datetime.now(UTC) + wait, action, *args, *kwargs.values())

    def at(self, when: datetime, action: Any, /, *args: Any, **kwargs: Any) -> str:
        name = action.name if isinstance(action, Action) else action
        self._made += 1
        identity = str(self._made)
        self._entries[identity] = Scheduled(identity, name, (*args, *kwargs.values()), when)
        return identity

    def cancel(self, schedule_id: str) -> bool:
        return self._entries.pop(schedule_id, None) is not None

    def list(self) -> list[Scheduled]:
        return sorted(self._entries.values(), key=lambda entry: entry.due)


def unit_actor(
    actor: type[ActorT],
    *,
    state: Any = None,
    key: tuple[str, ...] = (),
    input: Any = None,
    conn: UnitConn | None = None,
    client: Any = None,
) -> tuple[ActorT, UnitContext]:
    """An actor to call methods on, and what it did.

    counter, did = unit_actor(Counter, state=CounterState(3))
    assert counter.increment.local(2) == 5
    assert did.broadcasts == [("new_count", (5,))]
    """
    made = object.__new__(actor)
    context = UnitContext(actor.__name__, key, input, client)
    if conn is not None:
        context.conn = conn
        context.conns.append(conn)
    bind(made, context)  # pyright: ignore[reportArgumentType]
    made.state = actor.__definition__.default_state() if state is None else state
    return made, context


def stub_client(**types: Mapping[str, Callable[..., Any]]) -> Any:
    """A client for `unit_actor` whose actors answer with your functions.

    stub_client(stock={"reserve": lambda amount: True})

    Any key gives the same stub. An action without a function raises
    AttributeError, so that a test notices what it forgot.
    """
    return _Stub({name: _accessor(name, actions) for name, actions in types.items()})


class _Stub:
    def __init__(self, members: Mapping[str, Any]) -> None:
        self.__dict__.update(members)


def _accessor(name: str, actions: Mapping[str, Callable[..., Any]]) -> Any:
    handle = _Stub({action: _asynchronous(function) for action, function in actions.items()})

    async def create(*_: Any, **__: Any) -> Any:
        return handle

    def get(*_: Any, **__: Any) -> Any:
        return handle

    return _Stub({"get": get, "get_or_create": get, "get_with_id": get, "create": create})


def _asynchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if isawaitable(result):
            result = await result
        return result

    return call
