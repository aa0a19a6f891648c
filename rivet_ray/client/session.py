"""A connection's memory, which outlives sockets, and one socket's life."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rivet_ray.budget import Budget
from rivet_ray.client.listeners import Listeners, log
from rivet_ray.client.settings import DEFAULTS, ClientSettings, Held, admit
from rivet_ray.client.transport import Closing, ConnectionTransport, Refused, rebuild
from rivet_ray.errors import (
    ActionTimedOut,
    ConnectionClosed,
    MessageTooLong,
    Outcome,
    Overloaded,
    RequestFailed,
    RivetError,
)
from rivet_ray.protocol.encodings import EncodeFault
from rivet_ray.protocol.error_codes import from_code
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.protocol.v0 import (
    ActionRequest,
    ActionResponse,
    Arrived,
    ErrorMessage,
    EventMessage,
    Init,
    SubscriptionRequest,
    ToServer,
    UnreadableAnswer,
    UnreadableEvent,
)
from rivet_ray.repeated_lines import REPEATED

CALL = 1_024
"""Bytes that a call which waits takes beside its name, key and arguments."""


@dataclass(slots=True, eq=False)
class _Call:
    request: ActionRequest
    answer: asyncio.Future[bytes | None]
    sent: bool = False
    sent_before: bool = False
    """On a socket that was lost: it may have had its effect, whatever comes now."""


class Session:
    """What a connection wants and waits for: its calls and its subscriptions.

    It knows no socket. A Socket asks it for what to send and tells it what came.
    """

    def __init__(
        self,
        label: str,
        *,
        comes_back: bool = True,
        settings: ClientSettings = DEFAULTS,
        held: Held | None = None,
    ) -> None:
        """`comes_back`: a socket that is lost is followed by another. `held` is what the
        whole client holds."""
        self.label = label
        self._comes_back = comes_back
        client = (held or Held(settings)).budget
        self.listeners = Listeners(self._change, label, settings.max_unread_size, client)
        self.news = asyncio.Event()
        """Set when there may be something to send."""
        self._waiting = Budget("calls", settings.max_waiting_size, client)
        """Bytes of the calls that are not answered yet."""
        self.refused_calls = 0
        """Calls that were refused because too much waited."""
        self._calls: dict[int, _Call] = {}
        self._unsent: dict[int, _Call] = {}
        self._announced: set[str] = set()
        self._listeners_changed = False
        self._next_id = 0
        self._seen: int | None = None
        """The number of the last event, where the server counts them."""

    def opened(self, init: Init, resume: Resume) -> None:
        """A socket is open, on the connection that was to go on or on another."""
        if init.connection_id != resume.connection or self._seen is None:
            self._seen = init.sequence

    def resume(self, init: Init) -> Resume:
        """What the next socket asks for, after the one that `init` opened."""
        if self._seen is None:
            return Resume()
        return Resume(init.connection_id, init.token, self._seen)

    def cut(self, error: RivetError, *, again: bool) -> None:
        """A socket is lost, and another will come. What was not sent waits for it.

        Calls under way fail with what is known of them (C8); with `again` those
        that have an idempotency key are sent once more.
        """
        self._unsent = {}
        for number, call in list(self._calls.items()):
            if call.answer.done():
                continue  # Its caller has given it up, and takes it out itself.
            if call.sent and not (again and call.request.key is not None):
                call.answer.set_exception(_under_way(error, call))
            else:
                call.sent_before = call.sent_before or call.sent
                call.sent = False
                self._unsent[number] = call

    async def call(
        self, action: str, arguments: bytes, timeout: float, key: str | None = None
    ) -> bytes | None:
        """Queue a call and wait for its answer; forgotten when cancelled.

        Raises Overloaded where too much waits already.
        """
        size = CALL + len(action) + len(arguments) + len(key or "")
        full = admit(self._waiting, size)
        if full is not None:
            self.refused_calls += 1
            own = full is self._waiting
            what = f"the connection to {self.label}: calls" if own else "this client: it holds all"
            setting = "max_waiting_size" if own else "max_held_size"
            raise Overloaded(
                f"Too much waits for {what} of {full.limit} bytes. Wait for some of them before "
                f"you call {action!r}, or raise ClientSettings.{setting}.",
                outcome=Outcome.NOT_STARTED,
            )
        number = self._next_id
        self._next_id += 1
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        call = _Call(ActionRequest(number, action, arguments, key), answer)
        self._calls[number] = self._unsent[number] = call
        self.news.set()
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise ActionTimedOut(
                f"{action!r} on {self.label} was not answered within {timeout:g} s. "
                "Give Client(timeout=…) more seconds if it needs them.",
                outcome=(Outcome.UNKNOWN if call.sent or call.sent_before else Outcome.NOT_STARTED),
            ) from error
        finally:
            self._calls.pop(number, None)
            self._unsent.pop(number, None)
            self._waiting.give_back(size)

    def begin(self) -> None:
        """A new socket is open: nothing was announced on it yet."""
        self._announced.clear()
        self._change()

    def next_message(self) -> ToServer | None:
        """What to send next: subscriptions before calls, calls in their order."""
        if self._listeners_changed:
            for event in self.listeners.events():
                if event not in self._announced:
                    self._announced.add(event)
                    return SubscriptionRequest(event, True)
            for event in self._announced:
                if event not in self.listeners:
                    self._announced.discard(event)
                    return SubscriptionRequest(event, False)
            self._listeners_changed = False
        for number, call in self._unsent.items():
            del self._unsent[number]
            call.sent = True
            return call.request
        return None

    def did_not_leave(self, message: ToServer) -> None:
        """Take back what `next_message` gave: a call is the next to be sent again."""
        call = self._calls.get(message.id) if isinstance(message, ActionRequest) else None
        if call is not None:
            call.sent = False
            self._unsent = {call.request.id: call, **self._unsent}

    def receive(self, message: Arrived) -> None:
        """A message came. Never raises, whatever handlers do."""
        match message:
            case ActionResponse():
                call = self._calls.pop(message.id, None)
                if call is not None and not call.answer.done():
                    call.answer.set_result(message.output)
            case EventMessage():
                if self._is_new(message.sequence):
                    self.listeners.deliver(message.name, message.arguments)
            case ErrorMessage():
                if message.action_id is None:
                    self.listeners.emit_error(rebuild(message, None))
                else:
                    self._fail(message.action_id, rebuild(message, Outcome.UNKNOWN))
            case UnreadableAnswer():
                self._fail(message.id, self._unreadable(message))
            case UnreadableEvent():
                if self._is_new(message.sequence):
                    self.listeners.deliver_unreadable(message.name, message.problem)
            case Init():
                log.warning(
                    "the connection to %s was initialised twice", self.label, extra=REPEATED
                )

    def _is_new(self, sequence: int | None) -> bool:
        """Whether an event did not come before the cut."""
        if sequence is not None and self._seen is not None:
            if sequence <= self._seen:
                return False
            self._seen = sequence
        return True

    def _unreadable(self, answer: UnreadableAnswer) -> RivetError:
        call = self._calls.get(answer.id)
        name = "a call" if call is None else repr(call.request.name)
        what = "took effect, but its answer" if answer.took_effect else "failed, and its error"
        kind = MessageTooLong if answer.too_long else RequestFailed
        return kind(
            f"{name} on {self.label} {what} cannot be read: {answer.problem}.",
            outcome=Outcome.TOOK_EFFECT if answer.took_effect else Outcome.UNKNOWN,
        )

    def sends_again(self, message: ToServer, error: RivetError) -> bool:
        """Whether a message that may have been taken is to be sent on another socket."""
        keyed = isinstance(message, ActionRequest) and message.key is not None
        return keyed and self._comes_back and error.outcome is Outcome.UNKNOWN

    def refuse(self, message: ToServer, fault: EncodeFault | RivetError) -> None:
        """What `next_message` gave cannot be written, or was not taken: it alone fails."""
        if isinstance(message, ActionRequest):
            self._fail(message.id, fault)
        else:
            self.listeners.emit_error(fault)

    def refuse_longest(self) -> None:
        """The server closed because of a message that is too long, and does not say which.

        The longest is not sent again. It may be another that its caller has given up
        meanwhile, so nothing more is known of its effect (C8).
        """
        under_way = [call for call in self._calls.values() if call.sent and not call.answer.done()]
        if not under_way:
            return
        longest = max(under_way, key=lambda call: len(call.request.arguments))
        name = longest.request.name
        error = MessageTooLong(
            f"The server takes no message as long as that of {name!r} on {self.label}, it seems.",
            outcome=Outcome.UNKNOWN,
        )
        self._fail(longest.request.id, error)

    def end(self, error: RivetError) -> None:
        """No socket will come any more: fail every call, saying what is known (C8)."""
        for call in list(self._calls.values()):
            if call.answer.done():
                continue
            may_have_begun = call.sent or call.sent_before
            failure = (
                _under_way(error, call) if may_have_begun else again(error, Outcome.NOT_STARTED)
            )
            call.answer.set_exception(failure)

    def _fail(self, number: int, error: Exception) -> None:
        call = self._calls.pop(number, None)
        if call is not None and not call.answer.done():
            not_begun = isinstance(error, RivetError) and error.outcome is Outcome.NOT_STARTED
            if isinstance(error, RivetError) and not_begun and call.sent_before:
                error = again(error, Outcome.UNKNOWN)  # This time; nobody knows of the first.
            call.answer.set_exception(error)

    def _change(self) -> None:
        self._listeners_changed = True
        self.news.set()


class Socket:
    """One life of a session on the network."""

    def __init__(self, transport: ConnectionTransport, session: Session) -> None:
        self._transport = transport
        self._session = session

    async def open(self) -> Init:
        return await self._transport.open()

    async def run(self) -> Closing:
        """Carry messages both ways until the connection ends, and say how it did."""
        self._session.begin()
        writer = asyncio.create_task(self._write(), name=f"rivet_ray to {self._session.label}")
        try:
            async for message in self._transport:
                self._session.receive(message)
        except asyncio.CancelledError:
            await self._transport.leave()
            raise
        finally:
            writer.cancel()
            await asyncio.wait([writer])
            await self._transport.close()
        return self._transport.closing

    async def _write(self) -> None:
        session = self._session
        while True:
            await session.news.wait()
            session.news.clear()
            while (message := session.next_message()) is not None:
                try:
                    await self._transport.send(message)
                except EncodeFault as fault:
                    session.refuse(message, fault)
                except Refused as refused:
                    if session.sends_again(message, refused.error):
                        await self._transport.close()  # As a cut, after which it is.
                        return
                    session.refuse(message, refused.error)
                except ConnectionClosed as error:
                    # The reader sees the end too, and fails the calls.
                    if error.outcome is Outcome.NOT_STARTED:
                        session.did_not_leave(message)
                    return
                except Exception:
                    log.exception("sending to %s failed", session.label)
                    await self._transport.close()
                    return


def _under_way(error: RivetError, call: _Call) -> RivetError:
    return ConnectionClosed(
        f"{error.message} {call.request.name!r} was under way and may have had its effect.",
        outcome=Outcome.UNKNOWN,
    )


def again(error: RivetError, outcome: Outcome | None) -> RivetError:
    """The same error for one more caller; an exception is not raised twice."""
    return from_code(error.code, error.message, error.metadata, outcome, error.status)
