"""Idempotency keys: at most one effect and one answer for each (promise C4).

A call with a key has an entry, scoped by the caller, that lives in the actor's
snapshot and so shares the fate of the call's effect:

* while the call runs, the entry is only in memory. The first commit of the
  actor in this time may hold a part of the call's changes, so it carries the
  entry too, as *begun*;
* when the call ends, the entry with its answer goes into the commit that holds
  the rest of its effect.

After a crash the store therefore tells what happened: no entry, and nothing of
the call was ever saved, it may run; an answer, and that is the answer; a *begun*
entry, and a part of the effect may be there, so it never runs again and every
caller is told *interrupted*, outcome unknown.
"""

from __future__ import annotations

import hashlib

import msgspec

from rivet_ray.errors import IdempotencyKeyReused, Interrupted, Outcome, TooManyKeys
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Call, Failed, Reply
from rivet_ray.runtime.ledger import Ledger
from rivet_ray.runtime.turn import Turn

PART = "key/"
MAX_AGE = 24 * 3600.0
"""Seconds for which an answer is kept. Entries leave by age only."""
LIMIT = 10_000
"""Keys that one actor remembers; the next new one is refused until some are old."""


class Entry(msgspec.Struct, array_like=True):
    """A key's record, as it is saved."""

    fingerprint: bytes
    """Of the action and its arguments."""
    at: float
    """When the call began, in seconds since the Unix epoch."""
    answer: Reply | Failed | None = None
    """None while the call has begun and not ended."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Keys:
    """The idempotency keys of one actor."""

    __slots__ = ("_entries", "_ledger", "_running")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, list[Turn]] = {}

    def load(self, part: str, value: bytes) -> None:
        """Take over an entry from the snapshot."""
        self._entries[part] = _decoder.decode(value)

    def loaded(self) -> None:
        """Everything is taken over: the oldest first, as they expire."""
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1].at))

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, turn: Turn, call: Call, caller: Caller, now: float) -> Reply | Failed | None:
        """Whether the call has an answer already.

        None means that the turn is to run, or, when `turn.joined` is set, that
        it waits for another with the same key. Raises IdempotencyKeyReused,
        Interrupted, TooManyKeys.
        """
        part = _part(call, caller)
        fingerprint = _fingerprint(call)
        entry = self._entries.get(part)
        if entry is None:
            self._make_room(now)
            self._entries[part] = Entry(fingerprint, now)
            self._running[part] = [turn]
            turn.key_part = part
            return None
        if entry.fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                "The idempotency key was used with another action or other arguments.",
                outcome=Outcome.NOT_STARTED,
            )
        if entry.answer is not None:
            return entry.answer
        if part in self._running:
            turn.joined = True
            self._running[part].append(turn)
            return None
        raise Interrupted(
            "A crash interrupted this call after a part of its changes was saved; "
            "it is not run again.",
            outcome=Outcome.UNKNOWN,
        )

    def _make_room(self, now: float) -> None:
        if len(self._entries) < LIMIT:
            # Oldest first, since entries are only ever added with the time going on.
            for part, entry in list(self._entries.items())[:2]:
                self._expire(part, entry, now)
            return
        for part, entry in list(self._entries.items()):
            self._expire(part, entry, now)
        if len(self._entries) >= LIMIT:
            raise TooManyKeys(
                f"The actor remembers {LIMIT} idempotency keys of the last "
                f"{MAX_AGE / 3600:g} hours; it takes no new ones now.",
                outcome=Outcome.NOT_STARTED,
            )

    def _expire(self, part: str, entry: Entry, now: float) -> None:
        if now - entry.at > MAX_AGE and part not in self._running:
            del self._entries[part]
            self._ledger.delete(part)

    def before_commit(self) -> None:
        """A commit is made while calls run: it may hold a part of their effect."""
        for part, turns in self._running.items():
            if turns[0].entered:
                self._ledger.put(part, _encoder.encode(self._entries[part]))

    def amend(self, part: str, answer: Failed) -> None:
        """The answer that was kept could not be given; keep what was told instead."""
        entry = self._entries.get(part)
        if entry is not None:
            entry.answer = answer
            self._ledger.put(part, _encoder.encode(entry))

    def finish(self, turn: Turn, answer: Reply | Failed) -> list[Turn]:
        """Keep the answer; the turns that waited for it, to be given it too."""
        part = turn.key_part
        assert part is not None
        entry = self._entries[part]
        waiting = self._running.pop(part)
        if isinstance(answer, Failed) and answer.failure.outcome == Outcome.NOT_STARTED.value:
            # Nothing ran, so the key is free again.
            del self._entries[part]
            self._ledger.delete(part)
        else:
            entry.answer = answer
            self._ledger.put(part, _encoder.encode(entry))
        return [other for other in waiting if other is not turn]


def readdressed(answer: Reply | Failed, call: int) -> Reply | Failed:
    """The same answer to another call."""
    return msgspec.structs.replace(answer, call=call)


def _part(call: Call, caller: Caller) -> str:
    scope = caller.auth or b""
    digest = hashlib.sha256(len(scope).to_bytes(8, "big") + scope + (call.key or "").encode())
    return PART + digest.hexdigest()[:32]


def _fingerprint(call: Call) -> bytes:
    return hashlib.sha256(values.encode([call.action, call.arguments])).digest()[:16]
