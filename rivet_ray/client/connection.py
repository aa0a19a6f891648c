"""A client's connection to one actor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, Self, cast

from typing_extensions import TypeVar

from rivet_ray.client.given import ParamsFault
from rivet_ray.client.handle import ActorHandle, TypedHandle
from rivet_ray.client.interface import Interface, payload_decoder
from rivet_ray.client.listeners import Stream, log
from rivet_ray.client.reconnecting import (
    OUR_FAULT,
    STEADY,
    TOO_LONG,
    begins_anew,
    comes_back,
    may_pass,
    pauses,
    wait_of,
)
from rivet_ray.client.session import Session, Socket, again
from rivet_ray.client.settings import ClientSettings, Held
from rivet_ray.client.transport import ConnectionTransport, Fetch, Options
from rivet_ray.definition.events import Event
from rivet_ray.definition.remote import LIFECYCLE, Connection, EventStream, Unsubscribe
from rivet_ray.definition.user_code import described
from rivet_ray.errors import ConnectionClosed, Outcome, RequestFailed, RivetError
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.protocol.v0 import Init

Actor_T = TypeVar("Actor_T")


class ActorConnection(Connection[Actor_T]):
    """A connection, opened by its first use: `async with`, `await`, an action, a handler.

    Who waits for the first opening is told what went wrong, and it is over. Where
    nobody waits, as a handler does not, it is tried again until somebody does.

    `dial` makes the transport of each life of it. `timeout` is how many seconds
    opening may take, and each call. `held` is what its client holds. `ended` is called
    once, when nothing of the connection is left.
    """

    def __init__(
        self,
        dial: Callable[[Resume], Awaitable[ConnectionTransport]],
        interface: Interface | None,
        label: str,
        *,
        timeout: float,
        reconnect: bool,
        settings: ClientSettings,
        started: Callable[[ActorConnection[Any]], None],
        ended: Callable[[ActorConnection[Any]], None],
        held: Held | None = None,
    ) -> None:
        self.label = label
        self.settings = settings
        self.held = held = held or Held(settings)
        self._dial = dial
        self._reconnect = reconnect
        self._timeout = timeout
        self._on_start = started
        self._on_end = ended
        self._session = Session(label, comes_back=reconnect, settings=settings, held=held)
        self._listeners = self._session.listeners
        self._init: Init | None = None
        self._settled = asyncio.Event()
        """Set when the connection is open, or will never be."""
        self._end: RivetError | None = None
        """Why the connection is over."""
        self._failed = False
        """It could not be opened, or not again: its end is an error."""
        self._fault: Exception | None = None
        """What the callable raised that makes its parameters, where that is the end."""
        self._connected = False
        self._awaited = False
        """Somebody is told if it cannot be opened."""
        self._trying = False
        """It could not be opened yet, and nobody waits for it."""
        self._hurry = asyncio.Event()
        """Set by the first who does."""
        self._task: asyncio.Task[None] | None = None
        self._disposed = False
        self._pauses = pauses()
        self._handle = ActorHandle(self) if interface is None else TypedHandle(self, interface)

    @property
    def actor(self) -> Actor_T:
        return cast("Actor_T", self._handle)

    @property
    def actor_id(self) -> str:
        return self._opened().actor_id

    @property
    def connection_id(self) -> str:
        return self._opened().connection_id

    @property
    def dropped_events(self) -> int:
        return self._listeners.backlog.dropped

    @property
    def refused_calls(self) -> int:
        return self._session.refused_calls

    # --- Events --------------------------------------------------------------

    def on(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        return self._listen(event, handler, once=False)

    def once(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        return self._listen(event, handler, once=True)

    def off(self, event: Any = None, handler: Callable[..., Any] | None = None, /) -> None:
        self._listeners.remove_handlers(None if event is None else _name(event), handler)

    def events(self, event: Any, /) -> EventStream[Any]:
        name = _name(event)
        if name in LIFECYCLE:
            raise ValueError(f"{name!r} is a life-cycle event; use conn.on({name!r}, handler)")
        stream = Stream(self._listeners, name, payload_decoder(event), self._use)
        if self._end is not None:
            stream.end(again(self._end, self._end.outcome) if self._failed else None)
        else:
            self._listeners.add(name, stream)
        return stream

    def _listen(self, event: Any, handler: Callable[..., Any], *, once: bool) -> Unsubscribe:
        remove = self._listeners.handle(_name(event), handler, payload_decoder(event), once=once)
        if _loop_runs():
            self._start()
        return remove

    # --- Calls: the channel of `actor` ----------------------------------------

    async def invoke(self, action: str, arguments: bytes, options: Options) -> bytes | None:
        self._use()
        if self._end is not None:
            raise again(self._end, Outcome.NOT_STARTED)
        timeout = self._timeout if options.timeout is None else options.timeout
        return await self._session.call(action, arguments, timeout, options.idempotency_key)

    async def resolve(self) -> str:
        await self._open()
        return self.actor_id

    def connect(self, interface: Interface | None, params: Any) -> NoReturn:
        raise AttributeError("conn.actor is connected already; connect() is for handles")

    async def fetch(self, fetch: Fetch, options: Options) -> NoReturn:
        raise AttributeError("conn.actor has no fetch(); it is for handles")

    def websocket(self, path: str, protocols: Sequence[str]) -> NoReturn:
        raise AttributeError("conn.actor has no websocket(); it is for handles")

    # --- Life ------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        try:
            return await self._open()
        except BaseException:
            await self.dispose()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.dispose()

    async def dispose(self) -> None:
        if self._task is not None:
            if not self._disposed:
                # Once only: a second time would cut the closing handshake short.
                self._task.cancel()
            self._disposed = True
            await asyncio.wait([self._task])
        if self._end is None:
            self._finish(self._was_closed("was closed by its client."))
        await self._listeners.cancel_tasks()
        self._listeners.remove_handlers()

    def _use(self) -> None:
        """What waits to be sent on a connection that is being tried waits for its deadline."""
        self._awaited = self._awaited or not self._trying
        self._start()

    def _start(self) -> None:
        if self._task is None and self._end is None:
            self._task = asyncio.create_task(self._run(), name=f"rivet_ray {self.label}")
            self._on_start(self)
            self._task.add_done_callback(lambda _: self._on_end(self))

    async def _open(self) -> Self:
        self._awaited = True
        if self._trying:
            self._hurry.set()
        self._start()
        await self._settled.wait()
        if self._fault is not None:
            raise self._fault
        if self._end is not None:
            raise again(self._end, self._end.outcome)
        return self

    async def _run(self) -> None:
        try:
            end = await self._live()
        except asyncio.CancelledError:
            self._finish(self._was_closed("was closed by its client."))
            raise
        except RivetError as error:
            end, self._failed = error, True
        except ParamsFault as fault:
            self._fault, self._failed = fault.error, True
            end = RequestFailed(
                f"The parameters of the connection to {self.label} could not be had: {fault}",
                outcome=Outcome.NOT_STARTED,
            )
            end.__cause__ = fault.error
        except Exception as error:
            log.exception("the connection to %s failed", self.label)
            end = RequestFailed(f"The connection to {self.label} failed: {error}")
            self._failed = True
        except BaseException as error:
            self._failed = True
            self._finish(RequestFailed(f"The connection to {self.label} ended: {described(error)}"))
            raise
        self._finish(end)
        await self._listeners.finish_tasks()

    async def _live(self) -> RivetError:
        """The connection from its opening to its end; why it ended."""
        socket = await self._open_first()
        self._trying = False
        self._hurry.clear()
        self._settled.set()
        self._connected = True
        self._listeners.emit("connected")
        loop = asyncio.get_running_loop()
        while True:
            opened = loop.time()
            closing = await socket.run()
            if loop.time() - opened >= STEADY:
                # A server that accepts and closes at once is not asked ever faster.
                self._pauses = pauses()
            if closing.reason == TOO_LONG:
                self._session.refuse_longest()
            end = self._was_closed(f"closed ({closing}).")
            if not self._reconnect or not comes_back(closing):
                return end
            self._session.cut(end, again=closing.reason not in OUR_FAULT)
            self._connected = False
            self._listeners.emit("disconnected")
            resume = Resume() if begins_anew(closing) else self._session.resume(self._opened())
            socket = await self._open_again(resume)
            self._connected = True
            resumed = self._opened().connection_id == resume.connection
            self._listeners.emit("reconnected")
            if not resumed:
                self._listeners.emit("resync")

    async def _open_socket(self, resume: Resume) -> Socket:
        try:
            async with asyncio.timeout(self._timeout):
                socket = Socket(await self._dial(resume), self._session)
                self._init = await socket.open()
        except TimeoutError as error:
            raise RequestFailed(
                f"The connection to {self.label} was not open within {self._timeout:g} s.",
                outcome=Outcome.NOT_STARTED,
            ) from error
        self._session.opened(self._init, resume)
        return socket

    async def _open_first(self) -> Socket:
        try:
            return await self._open_socket(Resume())
        except (RivetError, ParamsFault) as fault:
            if self._awaited or not self._reconnect or not may_pass(fault):
                raise
            self._trying = True
            self._listeners.emit_error(fault.error if isinstance(fault, ParamsFault) else fault)
            wait = wait_of(fault)
        return await self._open_again(Resume(), wait)

    async def _open_again(self, resume: Resume, wait: float = 0.0) -> Socket:
        """Try for as long as it takes. Raises what a server refuses for good."""
        told = self._trying
        for pause in self._pauses:
            await self._sleep(max(pause, wait))
            try:
                return await self._open_socket(resume)
            except (RivetError, ParamsFault) as fault:
                if not may_pass(fault) or (self._trying and self._awaited):
                    raise
                if isinstance(fault, ParamsFault):
                    # Perhaps whoever renews a token cannot be reached now either.
                    self._listeners.emit_error(fault.error)
                    continue
                wait = wait_of(fault)
                if not told:
                    told = True
                    log.warning("the connection to %s is cut, trying again: %s", self.label, fault)
        raise AssertionError("the pauses never end")

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def _finish(self, end: RivetError) -> None:
        """The connection is over: tell everyone who waits for something of it."""
        self._end = end
        self._session.end(end)
        self._listeners.end_streams(again(end, end.outcome) if self._failed else None)
        if self._connected:
            self._connected = False
            self._listeners.emit("disconnected")
        if self._failed:
            failure = self._fault or end
            if self._init is None and self._awaited:
                self._listeners.emit("error", failure)  # Who waits gets it too.
            else:
                self._listeners.emit_error(failure)
        self._settled.set()

    def _was_closed(self, how: str) -> ConnectionClosed:
        return ConnectionClosed(f"The connection to {self.label} {how}")

    def _opened(self) -> Init:
        if self._init is None:
            raise RuntimeError(
                f"The connection to {self.label} is not open yet; "
                "write `async with handle.connect() as conn` or `await conn` first"
            )
        return self._init

    def __repr__(self) -> str:
        return f"<connection to {self.label}>"


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _name(event: Event[Any] | str) -> str:
    return event if isinstance(event, str) else event.name
