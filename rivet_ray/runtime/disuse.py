"""Destroying actors that nobody uses: `destroy_after` of their class.

The part `disuse` says when the actor expires, and the alarm wakes it then. The saved time
is never less than the last acknowledged use and `destroy_after`, so a crash cannot make the
end come early. It is set some slack later. A use is one comparison as long as the saved time
reaches far enough; otherwise a new one goes into the ledger, and the gate holds the answer
until that is saved.

A part of the slack is a reserve: as long as something uses the actor (an action, a socket, a
connection), a timer saves a later time before the reserve is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from rivet_ray.clock import Timer
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.alarms import LONGEST_WAIT, RESOLUTION
from rivet_ray.runtime.connection import PART as CONNECTION
from rivet_ray.runtime.connection import RESUME_WINDOW, Connection
from rivet_ray.runtime.deadline import within
from rivet_ray.runtime.lifecycle import State

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

log = logger_of_strangers("rivet_ray.runtime")

PART = "disuse"
SLACK = 0.1
"""By how much later than needed an expiry is set, of `destroy_after`."""
SHORTEST_SLACK = 0.1
"""Seconds."""
RESERVE = 0.25
"""How much of the slack is left when a use sets another expiry."""


class Saved(msgspec.Struct, array_like=True):
    """What is saved. Without it nobody knows when the actor was used."""

    expiry: float
    """In seconds since the Unix epoch."""
    after: float
    """`destroy_after` of the code that has set it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Saved)


class Disuse:
    """When one instance is destroyed for disuse."""

    __slots__ = (
        "_after",
        "_enough_until",
        "_instance",
        "_loaded_over",
        "_reserve",
        "_slack",
        "_timer",
        "expiry",
    )

    def __init__(self, instance: Instance, after: float, parts: Mapping[str, bytes]) -> None:
        """`parts` is the snapshot of the actor; empty for a new one."""
        self._instance = instance
        self._after = after
        self._slack = _slack(after)
        self._reserve = RESERVE * self._slack
        self._timer: Timer | None = None
        self.expiry = 0.0
        """When the actor is destroyed unless somebody uses it; in seconds since the epoch."""
        self._enough_until = 0.0
        """Until when a use needs no later expiry."""
        found = _read(parts.get(PART))
        if found is None:
            self._set(instance.clock.now() + after + self._slack)
        elif found.after != after:
            self._set(found.expiry - found.after + after)
        else:
            self._take(found.expiry)
        if self.over and (end := _last_return(parts)) > self.expiry:
            self._set(end)
        self._loaded_over = self.over
        """Nobody came back in time to the connections that were open when their host crashed."""
        self._watch()

    @property
    def over(self) -> bool:
        """Whether nobody has used the actor for long enough."""
        return self.expiry <= self._instance.clock.now() + RESOLUTION

    def used(self) -> None:
        """Somebody uses the actor now: see that the saved expiry allows for it.

        What leaves the actor from now on waits until it does.
        """
        now = self._instance.clock.now()
        if now > self._enough_until:
            self._keep_until(now + self._after + self._slack)

    def _keep_until(self, expiry: float) -> None:
        self._loaded_over = False
        self._set(expiry)
        self._instance.touch()

    def _set(self, expiry: float) -> None:
        """Save another expiry with the next commit."""
        self._take(expiry)
        self._instance.ledger.put(PART, _encoder.encode(Saved(expiry, self._after)))

    def _take(self, expiry: float) -> None:
        self.expiry = expiry
        self._enough_until = expiry - self._after - self._reserve

    # --- While it is used -----------------------------------------------------

    @property
    def _in_use(self) -> bool:
        instance = self._instance
        return bool(
            instance.turnstile.open
            or instance.connections.attached
            or instance.connections.opening
            or instance.exchanges.any
        )

    def _watch(self) -> None:
        """Look again before the reserve is used."""
        wait = self._reserve
        if self._after >= RESUME_WINDOW:  # Those with less are looked at all the time.
            wait = max(wait, self._enough_until - self._reserve - self._instance.clock.now())
        self._timer = self._instance.clock.call_later(min(wait, LONGEST_WAIT), self._look)

    def _look(self) -> None:
        self._timer = None
        instance = self._instance
        if instance.state not in (State.STARTING, State.RUNNING):
            return
        if self._in_use:
            keep = self._after
            if instance.connections.attached:
                # Whose gateway or host is lost may come back for so long.
                keep = max(keep, RESUME_WINDOW)
            needed = instance.clock.now() + keep
            if self.expiry <= needed + 2 * self._reserve + RESOLUTION:
                self._keep_until(needed + self._slack)
        self._watch()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    # --- The end --------------------------------------------------------------

    def run_due(self) -> None:
        """Destroy the actor if its time is over and nobody uses it."""
        if self.over:
            # Calls that have waited for the start with this alarm begin first, and are uses.
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        instance = self._instance
        if not self.over or instance.state is not State.RUNNING:
            return
        end = instance.connections.last_expiry()
        if self._in_use:
            self._keep_until(instance.clock.now() + self._after + self._slack)
        elif end > instance.clock.now() + RESOLUTION and not self._loaded_over:
            self._keep_until(end)
        else:
            log.info(
                "%r is destroyed: nobody has used it for %s",
                instance,
                timedelta(seconds=self._after),
            )
            instance.leaving.destroy()

    async def last(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step of a start whose time is over: by failing it does not keep the actor."""
        instance = self._instance
        settings = instance.host.settings
        limit = min(settings.stop_grace, settings.start_timeout / 4)
        try:
            async with within(instance.clock, limit, "the last start"):
                await step()
        except Exception:
            log.exception(
                "%r: its start failed, and nobody has used the actor for %s: it is destroyed",
                instance,
                timedelta(seconds=self._after),
                extra=REPEATED,
            )
            instance.leaving.destroy()


def _slack(after: float) -> float:
    return max(SLACK * after, SHORTEST_SLACK)


def first_expiry(now: float, after: float) -> tuple[float, bytes]:
    """The expiry of an actor that is created `now`, and the part that says so."""
    expiry = now + after + _slack(after)
    return expiry, _encoder.encode(Saved(expiry, after))


def _read(saved: bytes | None) -> Saved | None:
    try:
        return None if saved is None else _decoder.decode(saved)
    except msgspec.DecodeError:
        return None  # Other code has saved it. It counts as used now.


def _last_return(parts: Mapping[str, bytes]) -> float:
    """Until when a connection of the snapshot that lost its gateway may come back; or 0."""
    saved = (value for name, value in parts.items() if name.startswith(CONNECTION))
    return max((Connection.saved_expiry(value) or 0.0 for value in saved), default=0.0)


def disuse_of(instance: Instance, parts: Mapping[str, bytes]) -> Disuse | None:
    """What the instance needs if its class has `destroy_after`; `parts` is its snapshot.

    If the class has it no more, the part is removed.
    """
    after = instance.definition.destroy_after
    if after is not None:
        return Disuse(instance, after, parts)
    if PART in parts:
        instance.ledger.delete(PART)
    return None


async def in_time(instance: Instance, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step of a start. Raises what it raises, unless the actor is destroyed anyway."""
    if instance.disuse is not None and instance.disuse.over:
        await instance.disuse.last(step)
    else:
        await step()
