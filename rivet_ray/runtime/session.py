"""A gateway's session with a host: the host's end of the port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from rivet_ray.budget import Budget
from rivet_ray.errors import (
    ConnectionClosed,
    ConnectionNotFound,
    IncorrectConnectionToken,
    Outcome,
    Overloaded,
    RivetError,
)
from rivet_ray.protocol.port import (
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
    Leave,
    Reply,
    Said,
    Subscribe,
    Taken,
    ToGateway,
    ToHost,
)
from rivet_ray.protocol.raw import RawArrived, RawData, RawEnd, RawOpen, RawStart, RawTaken
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.flow import Arrivals, Lane
from rivet_ray.runtime.outbox import Outbox
from rivet_ray.runtime.proofs import proves

if TYPE_CHECKING:
    from rivet_ray.runtime.exchange import Exchange
    from rivet_ray.runtime.host import Host
    from rivet_ray.runtime.instance import Instance

NORMAL = 1000
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
GONE = 1006

RawMessage = RawStart | RawData | RawTaken | RawEnd | Failed


class Session:
    """See `rivet_ray.protocol.port.HostSession`."""

    __slots__ = (
        "_arrivals",
        "_attaching",
        "_connections",
        "_exchanges",
        "_handed",
        "_host",
        "_lane",
        "_number",
        "_open",
        "_outbox",
        "_parked",
        "_running",
        "on_lost",
    )

    def __init__(self, host: Host, receive: Callable[[ToGateway], None]) -> None:
        self._host = host
        budget = Budget("gateway", host.settings.max_queued_size, host.budget)
        self._outbox = Outbox(
            receive, self.overflow, budget, instead=self._instead_of, give_up=self._give_up
        )
        self.on_lost: Callable[[], None] | None = None
        """Ends what is between here and the gateway, and with it this session."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._connections: dict[str, Instance] = {}
        self._attaching: set[str] = set()
        self._parked: set[int] = set()
        self._handed: dict[int, Callable[[RivetError | None], None]] = {}
        self._number = 0
        self._open = True
        self._exchanges: dict[int, Exchange] = {}
        self._lane: Lane[ToGateway] = Lane(self.deliver)
        self._arrivals = Arrivals(lambda size: self.deliver(RawArrived(size)))

    # --- From the gateway ---------------------------------------------------

    def send(self, message: ToHost) -> None:
        """See `HostSession`: what breaks here fails alone."""
        try:
            match message:
                case Call() | RawOpen():
                    instance = self._host.running(message.actor)
                    if instance is not None:
                        self._begin(instance, message)
                    else:
                        self._parked.add(message.call)
                        since = self._host.clock.monotonic()
                        self._host.park(
                            message.actor,
                            lambda instance: self._unpark(instance, message, since),
                            lambda error: self._refuse(message.call, error),
                            message.timeout,
                            message.cost,
                            message.chain,
                        )
                case Subscribe():
                    found = self._connections.get(message.connection)
                    if found is not None:
                        found.connections.used(message.connection)
                        found.connections.subscribe(
                            message.connection, message.event, message.subscribed
                        )
                case Attach():
                    self._attaching.add(message.connection)
                    self._host.park(
                        message.actor,
                        lambda instance: self._attach(instance, message),
                        lambda error: self._refuse_attach(message, error),
                        None,
                        message.cost,
                        message.chain,
                    )
                case Detach():
                    self._attaching.discard(message.connection)
                    found = self._connections.get(message.connection)
                    if found is not None and message.keep:
                        found.connections.lose(message.connection)
                    elif found is not None:
                        found.connections.detach(message.connection)
                case Cancel():
                    self._parked.discard(message.call)
                    task = self._running.get(message.call)
                    if task is not None:
                        task.cancel()
                case Credit():
                    self._outbox.grant(message.frames)
                case Forward():
                    self._host.park(
                        message.actor,
                        lambda instance: self._forward(instance, message),
                        lambda error: self._refuse(message.call, error),
                        message.timeout,
                        message.cost,
                    )
                case Taken():
                    told = self._handed.pop(message.number, None)
                    if told is not None:
                        told(None if message.taken else _not_found())
                case RawData() | RawTaken() | RawEnd():
                    self._raw(message)
                case RawArrived():
                    self._lane.arrived(message.size)
        except Exception as error:
            failure = failure_of(error, Outcome.UNKNOWN, f"{type(message).__name__} of a gateway")
            if isinstance(message, Call | RawOpen | Attach | Forward):
                self.deliver(Failed(message.call, failure))

    def close(self) -> None:
        self._open = False
        self._attaching.clear()
        for connection, instance in tuple(self._connections.items()):
            instance.connections.lose(connection)
        for exchange in tuple(self._exchanges.values()):
            exchange.left(GONE, "")
        handed, self._handed = self._handed, {}
        for told in handed.values():
            told(ConnectionClosed("The client's gateway was lost.", outcome=Outcome.UNKNOWN))
        self._outbox.end()
        self._host.end_session(self)

    def _give_up(self) -> None:
        """The gateway takes nothing: its calls are lost, its connections may be resumed."""
        asyncio.get_running_loop().call_soon(self.on_lost or self.close)

    def _refuse_attach(self, message: Attach, error: BaseException) -> None:
        self._attaching.discard(message.connection)
        self._refuse(message.call, error)

    def _attach(self, instance: Instance, message: Attach) -> None:
        connections = instance.connections
        if instance.disuse is not None:
            instance.disuse.used()
        # An attachment is repeated when nobody knows whether the first one arrived.
        if message.resume or connections.get(message.connection) is not None:
            connections.resume(self, message)
        else:
            began = False

            async def attach() -> None:
                nonlocal began
                began = True
                await connections.attach(self, message)

            def ended(task: asyncio.Task[None]) -> None:
                # A destroy came first: it goes on with the actor's next life, if there is one.
                if not began and task.cancelled() and message.connection in self._attaching:
                    self.send(message)

            instance.own(attach()).add_done_callback(ended)

    def _begin(self, instance: Instance, call: Call | RawOpen) -> None:
        held = instance.checkpoint.gate.budget
        if held is not None:  # Much waits for the store: nothing is added without a bound.
            try:
                held.check(call.cost)
            except Overloaded as error:
                self._refuse(call.call, error)
                return
        if instance.disuse is not None:
            instance.disuse.used()
        if isinstance(call, Call):
            instance.actions.begin(self, call)
        else:
            instance.exchanges.begin(self, call)

    def _unpark(self, instance: Instance, call: Call | RawOpen, since: float) -> None:
        """The actor has started: the call begins, if somebody still waits for it."""
        if call.call not in self._parked:
            return
        self._parked.discard(call.call)
        if call.timeout is not None:
            left = call.timeout - (self._host.clock.monotonic() - since)
            call = msgspec.structs.replace(call, timeout=max(left, 0.0))
        self._begin(instance, call)

    def _refuse(self, call: int, error: BaseException) -> None:
        self._parked.discard(call)
        self.deliver(Failed(call, failure_of(error, Outcome.NOT_STARTED, "call")))

    # --- What a client said to a gateway that does not hold its connection ---

    def _forward(self, instance: Instance, message: Forward) -> None:
        connection = instance.connections.get(message.connection)
        if connection is None:
            self._refuse(message.call, _not_found())
        elif not proves(message.token, connection.token):
            wrong = IncorrectConnectionToken("This is not the token of the connection.")
            self._refuse(message.call, wrong)
        elif isinstance(message.said, Leave):
            if connection.session is not None:
                connection.session.deliver(Close(connection.id, NORMAL, "left"))
            instance.connections.detach(connection.id)
            self.deliver(Reply(message.call, None))
        else:
            budget, size = self._host.budget_of(message.actor), message.cost

            def held(holder: Session | RivetError) -> None:
                if not isinstance(holder, Session):
                    told(holder)
                elif budget.fits(size):
                    holder.hand(message.connection, message.said, handed)
                else:
                    told(_full("actor"))

            def handed(error: RivetError | None) -> None:
                budget.give_back(size)
                told(error)

            def told(error: RivetError | None) -> None:
                if error is None:
                    self.deliver(Reply(message.call, None))
                else:
                    self.deliver(Failed(message.call, failure_of(error, None, "forward")))

            connection.when_held(held, size)

    def hand(self, connection: str, said: Said, told: Callable[[RivetError | None], None]) -> None:
        """Give this gateway what its connection's client said elsewhere.

        `told` is called once: with None when the gateway has taken it.
        """
        self._number += 1
        self._handed[self._number] = told
        self.deliver(Handed(self._number, connection, said))

    def unhanded(self, message: Handed, error: RivetError) -> None:
        """What is between here and the gateway cannot carry what a client said elsewhere."""
        told = self._handed.pop(message.number, None)
        if told is not None:
            told(error)

    # --- Raw requests and sockets ---------------------------------------------

    def _raw(self, message: RawData | RawTaken | RawEnd) -> None:
        if isinstance(message, RawData):
            self._arrivals.count(message.cost)
        exchange = self._exchanges.get(message.call)
        if isinstance(message, RawEnd):
            self._parked.discard(message.call)
            if exchange is not None:
                exchange.left(message.code, message.reason)
        elif exchange is not None:
            exchange.received(message)

    def tell_raw(self, message: RawMessage) -> None:
        """Send what belongs to an exchange, in order."""
        if isinstance(message, RawTaken):
            self.deliver(message)
        else:
            self._lane.put(message)

    def own_raw(self, call: int, exchange: Exchange) -> None:
        self._exchanges[call] = exchange

    def forget_raw(self, call: int) -> None:
        self._exchanges.pop(call, None)

    # --- To the gateway -----------------------------------------------------

    def deliver(self, message: ToGateway) -> None:
        """Send a message, unless the gateway has gone."""
        if self._open:
            self._outbox.put(message)

    def _instead_of(self, message: ToGateway) -> ToGateway | None:
        """What still goes to a gateway for which too much waits: what is small."""
        match message:
            case Handed():
                self.unhanded(message, _full("gateway"))
                return None
            case Attached():
                return Failed(message.call, failure_of(_full("gateway"), None, "outbox"))
            case RawStart():
                end = RawEnd(message.call, TRY_AGAIN_LATER, Overloaded.code)
                asyncio.get_running_loop().call_soon(self.send, end)
                full = _full("gateway", Outcome.TOOK_EFFECT)
                return Failed(message.call, failure_of(full, None, "outbox"))
            case _:
                return message

    def overflow(self, message: Deliver) -> None:
        """Too much waits: the gateway, or the store, is too slow for the actor."""
        self._tell_missed(message, TRY_AGAIN_LATER, "slow_consumer")

    def missed(self, event: Deliver) -> None:
        """What is between here and the gateway cannot carry an event, now or later."""
        self._tell_missed(event, SERVICE_RESTART, "resync")

    def _tell_missed(self, message: Deliver, code: int, reason: str) -> None:
        """Close the connections that miss an event, so that their clients know (promise C5)."""
        instance = self._host.running(message.actor)
        if instance is None:
            return
        for connection in instance.connections.of_session(self):
            if connection.id == message.connection or (
                message.connection is None and message.event in connection.events
            ):
                instance.connections.detach(connection.id)
                self.deliver(Close(connection.id, code, reason))

    # --- Book-keeping -------------------------------------------------------

    def admit(self, connection: str, instance: Instance) -> bool:
        """Whether the connection is still wanted; it is the instance's then."""
        if connection not in self._attaching:
            return False
        self._attaching.discard(connection)
        self._connections[connection] = instance
        return True

    def forget(self, connection: str) -> None:
        self._connections.pop(connection, None)
        self._attaching.discard(connection)

    def track(self, call: int, task: asyncio.Task[None]) -> None:
        """Remember the task of a call, so that it can be cancelled."""
        self._running[call] = task

    def untrack(self, call: int) -> None:
        self._running.pop(call, None)


def _not_found() -> ConnectionNotFound:
    return ConnectionNotFound("The connection is not open.", outcome=Outcome.NOT_STARTED)


def _full(party: str, outcome: Outcome = Outcome.NOT_STARTED) -> Overloaded:
    return Overloaded(f"Too much waits for this {party}. Try again later.", outcome=outcome)
