"""A caller's end of the port: numbers for calls, sinks for connections.

Gateways and in-process clients share it. It turns the message stream of a
session into answers to calls, and hands events to whoever attached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rivet_ray.errors import ActorStopped, ConnectionNotFound, IncorrectConnectionToken, Outcome
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import (
    INITIAL_CREDIT,
    Attach,
    Attached,
    Call,
    Cancel,
    Close,
    Credit,
    Deliver,
    Detach,
    Failed,
    Forward,
    Handed,
    Hosting,
    Reply,
    Said,
    Subscribe,
    Taken,
    ToGateway,
    ToHost,
)
from rivet_ray.protocol.raw import (
    RawArrived,
    RawData,
    RawEnd,
    RawOpen,
    RawRequest,
    RawStart,
    RawTaken,
)
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.answers import Answered, instead_of
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.ports import Answer, Sink
from rivet_ray.runtime.proofs import Proof, proves
from rivet_ray.runtime.tunnel import Tunnel, Tunnels

log = logger_of_strangers("rivet_ray.runtime")

GRANT = INITIAL_CREDIT // 4
POLICY = 1008
SERVICE_RESTART = 1012


class HostClient:
    """Calls and connections over one session with one host."""

    def __init__(self, host: Hosting | None) -> None:
        """Without a host, a subclass finds one; see `rivet_ray.runtime.following`."""
        self._session = None if host is None else host.open(self._receive)
        self._number = 0
        self._answers: dict[int, Answer] = {}
        self._attaching: dict[int, tuple[asyncio.Future[None], Sink, Attach]] = {}
        self._sinks: dict[str, Sink] = {}
        self._proofs: dict[str, Proof] = {}
        """Actor and token of each connection that is held here."""
        self._subscribers: dict[tuple[str, str], dict[str, Sink]] = {}
        self._events: dict[str, set[tuple[str, str]]] = {}
        self._taken = 0
        self._tunnels = Tunnels(self._send, self._tunnel_ended)

    # --- Calls --------------------------------------------------------------

    def start(
        self,
        actor: str,
        action: str,
        arguments: bytes,
        answer: Answer,
        *,
        connection: str | None = None,
        caller: Caller | None = None,
        key: str | None = None,
        chain: list[str] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Send a call; `answer` is called once, perhaps before this returns."""
        self._number = number = self._number + 1
        self._answers[number] = answer
        if connection is not None:
            self._used(connection)
        self._call(
            Call(number, actor, action, arguments, connection, caller, key, chain or [], timeout)
        )
        return number

    def _call(self, message: Call | Forward | RawOpen) -> None:
        self._send(message)

    def _send(self, message: ToHost) -> None:
        if self._session is not None:
            self._session.send(message)

    async def call(
        self,
        actor: str,
        action: str,
        arguments: bytes,
        *,
        caller: Caller | None = None,
        key: str | None = None,
        chain: list[str] | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        """The output of an action. Raises its error, rebuilt as the right class.

        Cancelling the wait cancels the action.
        """
        answered = Answered()
        number = self.start(
            actor, action, arguments, answered, caller=caller, key=key, chain=chain, timeout=timeout
        )
        return await self._answer(number, answered)

    async def _answer(self, number: int, answered: Answered) -> bytes | None:
        try:
            message = await answered.future
        except asyncio.CancelledError:
            self.cancel(number)
            raise
        if isinstance(message, Failed):
            raise message.failure.exception()
        return message.output

    def cancel(self, number: int) -> None:
        """Nobody waits for a call any more."""
        if self._answers.pop(number, None) is not None:
            self._send(Cancel(number))

    # --- Connections --------------------------------------------------------

    async def attach(
        self,
        actor: str,
        connection: str,
        token: str,
        caller: Caller,
        sink: Sink,
        *,
        chain: list[str] | None = None,
    ) -> None:
        """Open a connection. Raises what refused it."""
        self._number += 1
        attach = Attach(self._number, actor, connection, token, caller, chain=chain or [])
        await self._open_connection(attach, sink)

    async def claim(
        self, actor: str, connection: str, token: str, caller: Caller, sink: Sink, seen: int
    ) -> None:
        """Go on with a connection whose client was cut off; see `port.Attach`.

        Raises ConnectionNotFound where it has ended, or the token is not its own.
        """
        held = self._sinks.get(connection)
        if held is not None:
            # Its client is back before this gateway knows that it was away.
            if not self._proves(connection, token):
                raise ConnectionNotFound("The connection has ended.", outcome=Outcome.NOT_STARTED)
            held.closed(POLICY, "taken_over")
            self.detach(connection, held, keep=True)
        self._number += 1
        claim = Attach(self._number, actor, connection, token, caller, True, [], seen, True)
        await self._open_connection(claim, sink)

    async def _open_connection(self, message: Attach, sink: Sink) -> None:
        connection = message.connection
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._attaching[message.call] = (future, sink, message)
        self._sinks[connection] = sink
        self._proofs[connection] = Proof(message.actor, message.token)
        self._attach(message)
        try:
            await future
        except BaseException:
            self.detach(connection, sink, keep=message.claim)
            raise
        finally:
            self._attaching.pop(message.call, None)

    def _attach(self, message: Attach) -> None:
        self._send(message)

    def subscribe(self, actor: str, connection: str, event: str, subscribed: bool) -> None:
        """Start or end a connection's interest in an event."""
        sink = self._sinks.get(connection)
        if sink is None:
            return
        self._used(connection)
        place = (actor, event)
        if subscribed:
            self._subscribe(place, connection, sink)
        else:
            self._drop(place, connection)
            self._events.get(connection, set()).discard(place)
        self._send(Subscribe(connection, event, subscribed))

    def _subscribe(self, place: tuple[str, str], connection: str, sink: Sink) -> None:
        self._subscribers.setdefault(place, {})[connection] = sink
        self._events.setdefault(connection, set()).add(place)

    def detach(self, connection: str, sink: Sink, *, keep: bool = False) -> None:
        """The client is gone; with `keep` it was cut off and may claim its connection.

        Harmless when it already was, or another has taken the connection over.
        """
        if self._sinks.get(connection) is not sink:
            return
        del self._sinks[connection]
        del self._proofs[connection]
        for place in self._events.pop(connection, ()):
            self._drop(place, connection)
        self._send(Detach(connection, keep))

    # --- What clients say elsewhere than on their connection ------------------

    def holds(self, connection: str) -> bool:
        """Whether the connection's client is connected here."""
        return connection in self._sinks

    async def forward(
        self,
        actor: str,
        connection: str,
        token: str,
        said: Said,
        *,
        timeout: float | None = None,
    ) -> None:
        """Hand over what a connection's client said, to whoever holds the connection.

        When this returns it has been taken, and what comes of it goes to the
        client's stream. Raises ConnectionNotFound, IncorrectConnectionToken or
        what kept the host from handing it over.
        """
        sink = self._sinks.get(connection)
        if sink is None:
            self._number = number = self._number + 1
            answered = self._answers[number] = Answered()
            self._call(Forward(number, actor, connection, token, said, timeout))
            await self._answer(number, answered)
            return
        if self._proofs[connection].actor != actor:
            raise ConnectionNotFound(
                "The actor has no such connection.", outcome=Outcome.NOT_STARTED
            )
        # Not by the token before: what was sent before a cut must not count as its use.
        if not proves(token, self._proofs[connection].token):
            raise IncorrectConnectionToken(
                "This is not the token of the connection.", outcome=Outcome.NOT_STARTED
            )
        sink.handed(said)

    def _used(self, connection: str) -> None:
        proof = self._proofs.get(connection)
        if proof is not None:
            proof.previous = None

    def _proves(self, connection: str, token: str) -> bool:
        proof = self._proofs[connection]
        return proves(token, proof.token) or (
            proof.previous is not None and proves(token, proof.previous)
        )

    def _handed(self, message: Handed) -> None:
        sink = self._sinks.get(message.connection)
        if sink is not None:
            sink.handed(message.said)
        self._send(Taken(message.number, sink is not None))

    def _drop(self, place: tuple[str, str], connection: str) -> None:
        sinks = self._subscribers.get(place)
        if sinks is not None:
            sinks.pop(connection, None)
            if not sinks:
                del self._subscribers[place]

    # --- Raw requests and sockets ---------------------------------------------

    def tunnel(
        self,
        actor: str,
        request: RawRequest,
        caller: Caller,
        *,
        body: bytes = b"",
        more: bool = False,
        timeout: float | None = None,
        chain: list[str] | None = None,
    ) -> Tunnel:
        """Open a raw request or socket; see `RawOpen`. Its `leave` must be called."""
        self._number = number = self._number + 1
        opening = RawOpen(number, actor, request, caller, body, more, timeout, chain or [])
        tunnel = self._tunnels.add(opening)
        self._call(opening)
        return tunnel

    def _tunnel_ended(self, number: int) -> None:
        """Nothing more comes for it."""

    # --- From the host ------------------------------------------------------

    def _receive(self, message: ToGateway) -> None:
        match message:
            case RawStart() | RawData() | RawTaken() | RawArrived() | RawEnd():
                self._tunnels.received(message)
            case Failed() if self._tunnels.received(message):
                pass
            case Reply() | Failed():
                answer = self._answers.pop(message.call, None)
                if answer is not None:
                    try:
                        answer(message)
                    except Exception as fault:
                        answer(instead_of(message, fault))
                elif isinstance(message, Failed):
                    self._refused(message)
            case Deliver():
                self._deliver(message)
            case Attached():
                self._attached(message)
            case Close():
                sink = self._sinks.get(message.connection)
                if sink is not None:
                    sink.closed(message.code, message.reason)
            case Handed():
                self._handed(message)

    def _attached(self, message: Attached) -> None:
        found = self._attaching.get(message.call)
        if found is None or found[0].done():
            return
        future, sink, attach = found
        if message.token is not None:
            self._proofs[attach.connection] = Proof(attach.actor, message.token, attach.token)
        for event in message.events:
            self._subscribe((attach.actor, event), attach.connection, sink)
        sink.attached(message)
        future.set_result(None)

    def _refused(self, message: Failed) -> None:
        found = self._attaching.get(message.call)
        if found is not None and not found[0].done():
            found[0].set_exception(message.failure.exception())

    def _deliver(self, message: Deliver) -> None:
        self._taken += 1
        if self._taken == GRANT:
            self._taken = 0
            self._send(Credit(GRANT))
        for sink in self._sinks_of(message):
            try:
                sink.deliver(message)
            except Exception as error:
                # One event must not cost the others theirs; who misses it is told (C5).
                text = "the event %r cannot be delivered: %s"
                log.error(text, message.event, error, extra=REPEATED)
                sink.closed(SERVICE_RESTART, "resync")

    def _sinks_of(self, message: Deliver) -> Sequence[Sink]:
        """Whom an event is for."""
        if message.connection is not None:
            sink = self._sinks.get(message.connection)
            return () if sink is None else (sink,)
        return tuple(self._subscribers.get((message.actor, message.event), {}).values())

    def close(self) -> None:
        """End the session; calls under way fail with the outcome unknown."""
        if self._session is not None:
            self._session.close()
        stopped = ActorStopped("The session with the host ended.", outcome=Outcome.UNKNOWN)
        answers, self._answers = self._answers, {}
        failure = failure_of(stopped, Outcome.UNKNOWN, "call")
        for number, answer in answers.items():
            answer(Failed(number, failure))
        for future, _, _ in self._attaching.values():
            if not future.done():
                future.set_exception(stopped)
        self._tunnels.close()
        self._sinks.clear()
        self._proofs.clear()
        self._subscribers.clear()
        self._events.clear()
