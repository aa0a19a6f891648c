"""One end of a link on a transport: the shell around frames and handshake.

**Out.** What is given within one tick of the event loop is encoded and written
together. The transport's buffer is the only queue; its bound is
`LinkSettings.buffer_limit` plus the frame that passes it, and the policy is to
drop the link: what waits is late already, and the peers of a dropped link know
where they are.

**In.** Messages are handed over as they are read, and whoever takes them may
not block, so reading is never paused: nothing gathers here.

**One message** that cannot be sent or read fails alone: whatever waits for it hears of
that, and the link stays. It ends only if the frames themselves cannot be told apart,
or if nobody can say what was meant.

**Life.** Any byte is a sign of life, not only a heartbeat. An end that has heard
nothing for an interval asks. So a heartbeat that waits behind a large buffer
does no harm: as long as that buffer moves the peer hears us, and when it does
not move, nothing that we send could arrive sooner. Intervals are counted, not
seconds: an end that was itself held up does not blame its peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Generic, cast

from rivet_ray.clock import Clock, Timer
from rivet_ray.link import addresses, handshake
from rivet_ray.link.ends import End, InT
from rivet_ray.link.faults import (
    HandshakeFailed,
    LinkError,
    LinkGarbled,
    LinkOverflow,
    LinkSilent,
    WrongSecret,
)
from rivet_ray.link.frames import Beat, FrameReader, Unreadable, encode_batch, frame
from rivet_ray.link.handshake import Handshake
from rivet_ray.link.settings import LinkSettings
from rivet_ray.link.statistics import LinkStatistics
from rivet_ray.protocol.caller import Message
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.link")


class State(Enum):
    """The life of a connection; it only goes forward."""

    HANDSHAKE = 1
    OPEN = 2
    ENDING = 3
    """Nothing is taken from the peer, and nothing from the owner."""
    ENDED = 4


class Connection(asyncio.Protocol, Generic[InT]):
    """See this module. No method raises, whatever the peer sends."""

    def __init__(
        self,
        end: End[InT],
        hello: Handshake,
        clock: Clock,
        settings: LinkSettings,
        statistics: LinkStatistics,
    ) -> None:
        self.state = State.HANDSHAKE
        self.peer = "?"
        self._end = end
        self._handshake = hello
        self._clock = clock
        self._settings = settings
        self._statistics = statistics
        self._reader = FrameReader(handshake.LIMIT)
        self._outgoing: list[Message] = []
        self._reason: LinkError | None = None
        self._silent = 0
        self._timer: Timer | None = None
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    # --- From the owner -----------------------------------------------------

    def send(self, message: Message) -> None:
        """Hand over a message. Never blocks, never raises; dropped once the link has ended."""
        if self.state is not State.OPEN:
            self._statistics.late += 1
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(message)

    def close(self) -> None:
        """Write what was given, then end the connection; nothing is received after."""
        while self._outgoing:
            self._flush()
        if self.state is State.OPEN:
            self._finish()
        elif self.state is State.HANDSHAKE:
            self._abort()

    def drop(self, reason: LinkError) -> None:
        """End the connection at once, and say why."""
        if self.state in (State.HANDSHAKE, State.OPEN):
            self._note(reason)
            self._abort()

    async def wait_ended(self) -> None:
        """Until the connection is gone and the owner has been told, if it was ever there."""
        if self._transport is not None:
            await self._gone.wait()

    # --- From the transport -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        if name := transport.get_extra_info("peername"):
            self.peer = addresses.join(name[0], name[1])
        if self.state is not State.HANDSHAKE:
            self._abort()  # closed before it was made
            return
        self._set_timer(self._settings.handshake_timeout, self._handshake_late)
        self._write(frame(self._handshake.hello()))

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        self._statistics.bytes_in += len(data)
        try:
            self._reader.feed(data)
            while self.state is State.OPEN or self.state is State.HANDSHAKE:
                payload = self._reader.next()
                if payload is None:
                    break
                self._statistics.frames_in += 1
                if self.state is State.OPEN:
                    self._take(payload)
                else:
                    self._shake(payload)
        except LinkError as fault:
            if isinstance(fault, WrongSecret) and self._handshake.role == "host":
                self._write(frame(handshake.refusal()))
                self._note(fault)
                self._finish()
            else:
                self.drop(fault)
        except Exception as fault:
            log.exception("A fault of the link", extra=REPEATED)
            self.drop(LinkGarbled(f"A fault of the link: {fault!r}"))

    def eof_received(self) -> None:
        # Nothing that is still written would be read.
        if self.state is State.HANDSHAKE:
            self.drop(HandshakeFailed("The peer hung up before the handshake was complete."))
        elif self.state is State.OPEN:
            self._abort()

    def pause_writing(self) -> None:
        self._statistics.pauses += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._reason is None and self.state is not State.ENDING:
            broken = LinkError(f"The connection broke: {exc}")
            broken.__cause__ = exc
            self._note(broken)
        self.state = State.ENDED
        self._outgoing.clear()
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._end.ended(self._reason)
        except Exception:
            log.exception("A fault after the end of the link with %s.", self.peer, extra=REPEATED)
        finally:
            self._gone.set()

    # --- In -----------------------------------------------------------------

    def _shake(self, payload: bytes) -> None:
        answer = self._handshake.receive(payload)
        if answer is not None:
            self._write(frame(answer))
        if self._handshake.done and self.state is State.HANDSHAKE:
            self.state = State.OPEN
            self._reader.limit = self._settings.frame_limit
            self._statistics.opened += 1
            self._set_timer(self._settings.heartbeat, self._beat)
            self._end.opened()

    def _take(self, payload: bytes) -> None:
        batch = self._end.decode(payload)
        self._statistics.messages_in += len(batch)
        for message in batch:
            if self.state is not State.OPEN:
                return
            if isinstance(message, Beat):
                if message.asks:
                    self.send(Beat(asks=False))
            elif isinstance(message, Unreadable):
                self._unreadable(message)
            else:
                self._received(message)

    def _received(self, message: InT) -> None:
        try:
            self._end.received(message)
        except Exception:
            log.exception("%s broke its receiver.", type(message).__name__, extra=REPEATED)
            self._end.broke(message)

    def _unreadable(self, item: Unreadable) -> None:
        self._statistics.unreadable += 1
        text = "%r from %s cannot be read: %s"
        log.error(text, item.kind, self.peer, item.fault, extra=REPEATED)
        if not self._end.unreadable(item):
            raise LinkGarbled(f"A message of kind {item.kind!r} that cannot be read: {item.fault}")

    # --- Out ----------------------------------------------------------------

    def _flush(self) -> None:
        batch, self._outgoing = self._outgoing, []
        if batch and self.state is State.OPEN:
            self._statistics.messages_out += len(batch)
            for encoded in encode_batch(batch, self._settings.frame_limit, self._unsendable):
                self._write(encoded)

    def _unsendable(self, message: Message, fault: Exception) -> Sequence[Message]:
        self._statistics.unsendable += 1
        text = "%s cannot be sent to %s: %s"
        log.error(text, type(message).__name__, self.peer, fault, extra=REPEATED)
        try:
            instead = self._end.unsendable(message, fault)
        except Exception:
            text = "%s that cannot be sent broke its sender."
            log.exception(text, type(message).__name__, extra=REPEATED)
            instead = ()
        self._statistics.messages_out += len(instead) - 1
        return instead

    def _write(self, encoded: bytes | bytearray) -> None:
        transport = self._transport
        if transport is None or self.state not in (State.HANDSHAKE, State.OPEN):
            return
        waiting = transport.get_write_buffer_size()
        if waiting > self._settings.buffer_limit:
            self.drop(LinkOverflow(f"The peer does not read: {waiting} bytes wait for it."))
            return
        self._statistics.frames_out += 1
        self._statistics.bytes_out += len(encoded)
        transport.write(encoded)

    def _finish(self) -> None:
        if self._transport is not None:
            self.state = State.ENDING
            self._set_timer(self._settings.close_timeout, self._transport.abort)
            self._transport.close()

    def _abort(self) -> None:
        self.state = State.ENDING
        self._outgoing.clear()
        if self._transport is not None:
            self._transport.abort()

    # --- Time ---------------------------------------------------------------

    def _beat(self) -> None:
        self._silent += 1
        if self._silent > self._settings.silence:
            seconds = self._settings.silence * self._settings.heartbeat
            self.drop(LinkSilent(f"The peer has sent nothing for {seconds:g} s."))
            return
        if self._silent > 1:
            self.send(Beat(asks=True))
        self._set_timer(self._settings.heartbeat, self._beat)

    def _handshake_late(self) -> None:
        limit = self._settings.handshake_timeout
        self.drop(HandshakeFailed(f"The peer did not prove itself within {limit:g} s."))

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(delay, callback)

    def _note(self, reason: LinkError) -> None:
        """What is kept, counted and logged as the reason of the end."""
        self._reason = reason
        self._statistics.drops[reason.code] += 1
        log.warning("The link with %s ends: %s", self.peer, reason, extra=REPEATED)
