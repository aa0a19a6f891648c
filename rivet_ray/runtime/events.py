"""The events of one instance: their numbers, and the last ones for who comes back.

Each event has the next number of its actor. What has left through the gate stays
in a *window* for as long as the actor has connections, so that one whose gateway
or session was lost gets what it missed. An `Event(durable=True)` is part of the
commit of its turn as well: those survive the host. A connection that missed what
is in no window any more is told so (promise C5); an actor nobody is connected to
keeps nothing.

A number never means two events, whatever becomes of the host. Each commit carries
the last number that was given, and an event whose number no commit carries waits
for one that *reserves* a block of them. The next owner begins behind the block: it
cannot know which of its numbers were used, and tells those whom that concerns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from rivet_ray.errors import RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Deliver
from rivet_ray.runtime.gate import OVERHEAD
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.connection import Connection
    from rivet_ray.runtime.instance import Instance

NUMBERS = "events"
"""The part with the numbers: the last event's, or all of `Numbers`."""
PART = "event/"
"""The prefix of the parts that hold a durable event each; its number follows."""
BLOCK = 4_096
"""How many numbers one commit reserves."""
PATIENCE = 16
"""A reservation is given back with so many commits in a row that nothing went between:
what it holds is what nobody knows anything of after a crash."""


class Numbers(msgspec.Struct, array_like=True):
    """What is saved; where all else follows from `last`, that alone is."""

    last: int
    volatile: int
    """The last event that is not durable."""
    trimmed: int
    """The last durable event that is not kept any more."""
    reserved: int = 0
    """Events up to this number may have left, if it is beyond `last`."""


class Saved(msgspec.Struct, array_like=True):
    """A durable event, as it is saved."""

    event: str
    arguments: bytes
    connection: str | None


_encoder = msgspec.msgpack.Encoder()
_numbers = msgspec.msgpack.Decoder(int | Numbers)
_saved = msgspec.msgpack.Decoder(Saved)


def check_part(name: str, saved: bytes) -> None:
    """Raise what a start raises if it cannot read this part of a snapshot."""
    if name == NUMBERS:
        _numbers.decode(saved)
    elif name.startswith(PART):
        int(name.removeprefix(PART))
        _saved.decode(saved)


class Events:
    """One instance's."""

    __slots__ = (
        "_between",
        "_commit_last",
        "_durable",
        "_given",
        "_instance",
        "_lost_durable",
        "_lost_volatile",
        "_removed",
        "_reserved",
        "_size",
        "_volatile",
        "_window",
        "last",
    )

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._durable = instance.definition.durable_events
        self.last = 0
        """The number of the actor's last event."""
        self._volatile = 0
        self._commit_last = 0
        """The last that a commit carries."""
        self._reserved: int = 0
        """The last that may leave; never less than a commit carries."""
        self._between: int = 0
        """How many commits a reservation is kept for."""
        self._lost_volatile = self._lost_durable = 0
        """Events up to these numbers are in the window no more."""
        self._window: deque[Deliver] | None = None
        self._size = 0
        self._given: list[tuple[Turn | None, Deliver, bool]] = []
        """Durable events that no commit has taken yet, and whether the ledger has them."""
        self._removed: list[str] = []
        """Saved events that the next commit takes away."""

    # --- Giving -------------------------------------------------------------

    def number(self, event: str, arguments: bytes, connection: str | None = None) -> Deliver:
        """The next event; `arguments` are a msgpack array."""
        self.last += 1
        message = Deliver(self._instance.record.id, event, arguments, connection, self.last)
        if event not in self._durable:
            self._volatile = self.last
        elif self._instance.connections.any:
            self._given.append((current_turn.get(), message, False))
        return message

    def hold(self, message: Deliver, deliver: Callable[[Deliver], None]) -> None:
        """Deliver an event when it may leave (C5), unless its turn was undone.

        Where too much waits for the store it is dropped, and those whom it is for are told.
        """
        turn, gate = current_turn.get(), self._instance.checkpoint.gate
        size = OVERHEAD + len(message.event) + len(message.arguments)
        full = None if gate.budget is None else gate.budget.exceeded(size)
        if full is not None:
            full.refuse()
            self.lose(message)
            self._instance.connections.overflow(message)
            return

        def release(error: RivetError | None) -> None:
            if error is None and not (turn is not None and turn.undone):
                self._keep(message)
                deliver(message)

        self._instance.hold(release, strict=message.event in self._durable, size=size)

    def broadcast(self, event: str, arguments: bytes) -> None:
        """Tell everybody who is subscribed by the time it leaves."""
        connections = self._instance.connections

        def deliver(message: Deliver) -> None:
            for session in connections.subscribed_sessions(event):
                session.deliver(message)

        self.hold(self.number(event, arguments), deliver)

    # --- The window ---------------------------------------------------------

    def _keep(self, message: Deliver) -> None:
        if not self._instance.connections.any:
            return
        if message.sequence > self._commit_last:
            self._between = PATIENCE
        window = self._window
        if window is None:
            window = self._window = deque()
        settings = self._instance.host.settings
        window.append(message)
        self._size += len(message.arguments)
        while len(window) > settings.replay_events or self._size > settings.replay_size:
            self._drop(window.popleft())

    def _drop(self, message: Deliver) -> None:
        self._size -= len(message.arguments)
        if message.event in self._durable:
            self._lost_durable = message.sequence
            self._removed.append(f"{PART}{message.sequence}")
        else:
            self._lost_volatile = message.sequence

    def lose(self, message: Deliver) -> None:
        """An event that is kept for nobody: who comes back and misses it is told."""
        self._size += len(message.arguments)
        self._drop(message)

    def forget(self) -> None:
        """The last connection has ended: nobody can come back."""
        window, self._window = self._window, None
        for message in window or ():
            self._drop(message)
        self._size = 0

    def missed(
        self, connection: Connection, wanted: frozenset[str], seen: int, last: int
    ) -> list[Deliver] | None:
        """What the connection missed after the event `seen`, up to `last`; None where
        that is not known any more."""
        if seen > last:
            return None  # The store has lost data: these numbers will be given again.
        lost = 0
        if connection.sent > seen:
            lost = max(self._lost_volatile, self._lost_durable)
        if wanted & self._durable:
            lost = max(lost, self._lost_durable)
        if wanted - self._durable:
            lost = max(lost, self._lost_volatile)
        if seen < min(lost, last):
            return None
        return [
            msgspec.structs.replace(message, connection=connection.id)
            for message in self._window or ()
            if seen < message.sequence <= last
            and (
                message.connection == connection.id
                or (message.connection is None and message.event in wanted)
            )
        ]

    # --- Saving -------------------------------------------------------------

    @property
    def unsaved(self) -> bool:
        """Whether a commit has to say which numbers are given, though nothing else has changed."""
        if self.last == self._reserved:
            return False
        stopping = self._instance.state is State.STOPPING
        # An actor that leaves in good order leaves no reservation behind.
        return self._instance.connections.any and (stopping or self.last > self._reserved)

    def record(self) -> None:
        """Put the durable events given so far into the ledger: they make a commit.

        Those of turns that were undone meanwhile are taken out.
        """
        ledger = self._instance.ledger
        for index, (turn, message, recorded) in enumerate(self._given):
            undone = turn is not None and turn.undone
            if undone == recorded:
                part = f"{PART}{message.sequence}"
                if undone:
                    ledger.delete(part)
                else:
                    saved = Saved(message.event, message.arguments, message.connection)
                    ledger.put(part, _encoder.encode(saved))
                self._given[index] = (turn, message, not undone)

    def before_commit(self, *, alone: bool) -> None:
        """A commit is made: it carries the numbers, and takes away what is too old.

        `alone` tells that it is made for the numbers only.
        """
        self.record()  # of `on_state_change` too
        self._given.clear()
        removed = bool(self._removed)
        for part in self._removed:
            self._instance.ledger.delete(part)
        self._removed.clear()
        reserved = self._reserve(alone)
        if removed or self.last != self._commit_last or reserved != self._reserved:
            self._commit_last, self._reserved = self.last, reserved
            self._instance.ledger.put(NUMBERS, self._encode_numbers())

    def _reserve(self, alone: bool) -> int:
        """The last number that may leave once the commit that is made now is durable."""
        instance = self._instance
        if instance.state is not State.RUNNING or not instance.connections.any:
            self._between = 0
            return self.last
        if instance.definition.relaxed:  # Its events go before their commits: no one may wait.
            enough = self._reserved - self.last >= BLOCK // 2
            return self._reserved if enough else self.last + BLOCK
        if alone:
            self._between = PATIENCE
        elif not self._between:
            return self.last
        self._between -= 1
        return self._reserved if self.last <= self._reserved else self.last + BLOCK

    def _encode_numbers(self) -> bytes:
        if self._durable:
            numbers = Numbers(self.last, self._volatile, self._lost_durable, self._reserved)
        elif self._reserved > self.last:
            numbers = Numbers(self.last, self.last, self.last, self._reserved)
        else:
            return values.encode(self.last)
        return _encoder.encode(numbers)

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Take over what a snapshot holds; the connections are loaded before."""
        saved = parts.get(NUMBERS)
        if saved is not None:
            numbers = _numbers.decode(saved)
            if isinstance(numbers, int):
                numbers = Numbers(numbers, numbers, numbers)
            self._commit_last = numbers.last
            self.last = self._reserved = max(numbers.last, numbers.reserved)
            # What nobody knows of was not durable: that waits for its commit.
            unknown = self.last > numbers.last
            self._volatile = self._lost_volatile = self.last if unknown else numbers.volatile
            self._lost_durable = numbers.trimmed
        kept = sorted(int(name.removeprefix(PART)) for name in parts if name.startswith(PART))
        for sequence in kept:
            event = _saved.decode(parts[f"{PART}{sequence}"])
            message = Deliver(
                self._instance.record.id, event.event, event.arguments, event.connection, sequence
            )
            self._window = self._window or deque()
            self._window.append(message)
            self._size += len(message.arguments)
        if not self._instance.connections.any:
            self.forget()
